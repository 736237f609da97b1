"""What an evaluation and its page return."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgcls.results.audit import AuditPicture
from imgcls.results.record import Record


@dataclass(frozen=True)
class EvalReport(Record):
    """One evaluated split. `metrics` may hold None; `undefined` then says why, by metric name.

    confusion_matrix: rows true, columns predicted; () beyond 2,000 classes.
    confusions: the commonest mistakes.
    intervals: (low, high) by metric name, made as `intervals_method` says.
    calibration: the temperature that the logits were divided by, with `before` and `after` it.
    cross_validation: mean, std and interval over the folds; the report is of their pooled pictures.
    ensemble: the folds and views that were averaged, and their gain.
    fold: "all" where several took part.
    coverage: accuracy when only confident pictures are answered.
    operating_points: each class's threshold of highest F1.
    costs: what decisions cost by `--costs`.
    slices: rows by `--by` column.
    comparison: against another checkpoint.
    corruptions: scores on worse pictures.
    gates: the marks of `--fail-under` and whether they were reached.
    prior: how common the model takes each class to be ("shares", by class) and the method of
    `--imbalance` that made it so; None for a checkpoint that does not say.
    bad_images: pictures that could not be read and were left out, each with the reason as its note.
    trained_on: how many of the `pictures` the model was trained on (`train`) or chosen by (`val`),
    told by content, null with its `reason` where that is not known; `not_compared`: training and
    val pictures without a known content; `excluded`: pictures left out for it.
    data: what opens the pictures again, `source` and the options of reading it.
    page: report.html, where it was made.
    """

    checkpoint: Path
    model_name: str
    split: str
    fold: int | str
    data: dict[str, Any]
    metrics: dict[str, Any]
    speed_metrics: dict[str, Any]
    undefined: dict[str, str]
    class_names: tuple[str, ...]
    per_class: tuple[dict[str, Any], ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    confusions: tuple[dict[str, Any], ...] = ()
    folder: Path | None = None
    page: Path | None = None
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    intervals_method: str | None = None
    calibration: dict[str, Any] | None = None
    cross_validation: dict[str, Any] | None = None
    ensemble: dict[str, Any] | None = None
    coverage: list[dict[str, Any]] = field(default_factory=list)
    operating_points: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, Any] | None = None
    slices: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    comparison: dict[str, Any] | None = None
    corruptions: dict[str, Any] | None = None
    gates: dict[str, dict[str, Any]] = field(default_factory=dict)
    bad_images: tuple[AuditPicture, ...] = ()
    notes: tuple[str, ...] = ()
    prior: dict[str, Any] | None = None
    trained_on: dict[str, Any] | None = None


@dataclass(frozen=True)
class PageReport(Record):
    """The page and the pictures (PNG; an SVG lies beside each) made of an evaluated split."""

    page: Path
    pictures: tuple[Path, ...]
    notes: tuple[str, ...] = ()
