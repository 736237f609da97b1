"""The rows of `imgcls runs`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from imgcls.results.record import Record

# a list of runs is read sooner than this is loaded
if TYPE_CHECKING:
    from imgcls.results.comparison import Interval

Status = Literal["running", "finished", "stopped", "failed", "damaged"]


@dataclass(frozen=True)
class RunScore(Record):
    """The metric by which a run chose its best epoch, where it was measured last.

    metric: its name in test_metrics.json. evaluated: by `imgcls evaluate`, with a 95% interval;
    else it is the best epoch's on val. split: with folds val is the pooled pictures that each fold
    has not seen, and mean and std (ddof=1) are over the folds. of_best: False for an evaluation of
    another checkpoint than the best one now.
    """

    metric: str
    value: float
    interval: Interval | None
    split: str
    pictures: int
    evaluated: bool
    of_best: bool = True
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class RunRow(Record):
    """One run of a folder. A damaged one has its name, size and reason alone.

    name: its path below the folder; that of a trial begins with its study's. began: ISO 8601.
    epochs: those behind it, of epochs_planned, both of all its folds together. reason: why it
    failed, or cannot be read. report: the evaluated split's page.
    """

    name: str
    path: Path
    status: Status
    began: str | None = None
    data: str | None = None
    model: str | None = None
    epochs: int | None = None
    epochs_planned: int | None = None
    folds: int = 1
    score: RunScore | None = None
    size_bytes: int = 0
    study: str | None = None
    report: Path | None = None
    reason: str | None = None


@dataclass(frozen=True)
class RunList(Record):
    """The runs of a folder. left_out: folders in it that are neither runs nor studies."""

    folder: Path
    runs: tuple[RunRow, ...]
    left_out: tuple[str, ...] = ()
