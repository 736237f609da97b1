"""The check before training: are all pictures whole, and does a copy of one stand elsewhere?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from imgcls.config.run import TrainConfig
from imgcls.data.audit_duplicates import same_content
from imgcls.data.audit_findings import picture, straddling
from imgcls.data.audit_picture import check
from imgcls.data.audit_scan import scan
from imgcls.data.source import SampleTable
from imgcls.data.split import SplitAssignment, assign_splits
from imgcls.errors import DataError
from imgcls.results import PreflightReport


@dataclass(frozen=True, eq=False)
class Preflight:
    """unreadable: row -> reason. same: groups of rows with identical content."""

    unreadable: dict[int, str]
    same: list[list[int]]
    elapsed_s: float


def preflight(
    config: TrainConfig, table: SampleTable, on_picture: Callable[[int, int], None]
) -> Preflight | None:
    """Read all pictures of the table; None when that is off or they are in memory already.

    Raises DataError that names every picture that cannot be read, unless they are to be left out.
    """
    if not config.data.preflight or table.defaults.in_memory:
        return None
    start_s = time.monotonic()
    workers = config.runtime.workers
    unreadable: dict[int, str] = {}
    digests: list[bytes] = []
    facts = scan(table.images, len(table), check, workers=workers, on_picture=on_picture)
    for row, fact in enumerate(facts):
        digests.append(b"" if fact.reason else fact.digest)
        if fact.reason:
            unreadable[row] = fact.reason
    if unreadable and config.data.on_bad_image == "error":
        raise DataError(
            f"{config.data.source}: {len(unreadable):,} of {len(table):,} pictures cannot be read, "
            "all listed above; repair them, or leave them out with --on-bad-image skip",
            details=[f"{table.images.location(row)}: {why}" for row, why in unreadable.items()],
        )
    return Preflight(unreadable, same_content(digests), time.monotonic() - start_s)


def split_readable(
    config: TrainConfig, table: SampleTable, checked: Preflight | None
) -> SplitAssignment:
    """A new split of what can be read; the rest is in no split, so that it can be told later."""
    unreadable = () if checked is None else checked.unreadable
    rows = np.array([row for row in range(len(table)) if row not in unreadable], dtype=np.int64)
    if not len(rows):
        raise DataError(f"{config.data.source}: not one of its pictures can be read")
    assignment = assign_splits(
        table.select(rows) if unreadable else table,
        val_size=config.data.val_size,
        test_size=config.data.test_size,
        folds=config.data.folds,
        seed=config.runtime.seed,
    )
    return assignment.spread(rows, len(table)) if unreadable else assignment


def preflight_report(
    found: Preflight, table: SampleTable, assignment: SplitAssignment
) -> PreflightReport:
    """What the check found, once it is known which picture is in which split and fold."""
    places = [(split, fold) for split, fold in zip(assignment.split, assignment.fold, strict=True)]
    leaks = straddling(places, found.same)
    conflicts = straddling(table.labels, found.same)
    return PreflightReport(
        pictures=len(table),
        unreadable=tuple(picture(table, row, why) for row, why in found.unreadable.items()),
        leaks=sum(map(len, leaks)),
        conflicts=sum(map(len, conflicts)),
        elapsed_s=found.elapsed_s,
    )
