"""What `imgcls inspect` found in a set of pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from imgcls.results.record import Record


@dataclass(frozen=True)
class AuditPicture(Record):
    """One picture that the audit names; `note` says what of it, where that is not plain."""

    path: str
    label: str
    split: str | None = None
    group: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Finding(Record):
    """One thing wrong with a data set.

    kind: its name, such as "leak". harm: "high" spoils training or its scores, "medium" may,
    "low" is good to know. pictures: how many it concerns. sets: the pictures, those together that
    belong together; class_names: the classes, where it concerns whole classes.
    """

    kind: str
    harm: str
    title: str
    advice: str
    pictures: int = 0
    sets: tuple[tuple[AuditPicture, ...], ...] = ()
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditReport(Record):
    """What `imgcls inspect` found, findings in order of harm.

    class_counts: pictures by class and split ("" where the data gives none). widths, heights:
    smallest, median and largest in pixels, as stored, or None when nothing could be read.
    bit_depth: what pictures of more than eight bits hold, in words; None without any.
    """

    data: str
    pictures: int
    class_names: tuple[str, ...]
    class_counts: dict[str, dict[str, int]]
    groups: int | None
    modes: dict[str, int]
    formats: dict[str, int]
    widths: tuple[int, int, int] | None
    heights: tuple[int, int, int] | None
    findings: tuple[Finding, ...]
    elapsed_s: float
    notes: tuple[str, ...] = ()
    fixed_manifest: Path | None = None
    fixed: dict[str, int] = field(default_factory=dict)
    html: Path | None = None
    bit_depth: str | None = None
