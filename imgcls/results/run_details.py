"""The whole of one run, two compared, and what was removed of some."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from imgcls.results.comparison import Interval, McNemar
from imgcls.results.record import Record
from imgcls.results.runs import RunRow


@dataclass(frozen=True)
class Setting(Record):
    """An option of a run that is not at its default, by its dotted name."""

    name: str
    value: Any
    default: Any


@dataclass(frozen=True)
class SavedCheckpoint(Record):
    """A checkpoint folder of a fold; epoch and step are None for one that cannot be read."""

    name: str
    epoch: int | None
    step: int | None
    size_bytes: int
    best: bool
    last: bool


@dataclass(frozen=True)
class FoldDetails(Record):
    """One fold: its pictures by split, how far it has come, its best epoch and its checkpoints.

    best: that epoch's row of history.csv. share: None, or the best weights lie this share of the
    way from the fitted classifier's to that epoch's, and best is what they scored. trackers: what
    is kept of its tracked runs, by tracker.
    """

    fold: int
    pictures: dict[str, int]
    epochs: int
    best_epoch: int | None
    best: dict[str, float | None]
    checkpoints: tuple[SavedCheckpoint, ...]
    trackers: dict[str, dict[str, Any]]
    share: float | None = None


@dataclass(frozen=True)
class EvaluatedSplit(Record):
    """What `imgcls evaluate` found on a split; fold: "all" where several took part.

    of_best: as in a RunScore. trained_on: how many of its pictures the model has seen in training;
    None where that is not known.
    """

    split: str
    fold: int | str | None
    folder: Path
    checkpoint: str
    metrics: dict[str, Any]
    intervals: dict[str, Interval]
    trained_on: int | None
    of_best: bool
    report: Path | None


@dataclass(frozen=True)
class RunDetails(Record):
    """The whole of one run. settings: what is not at its default.

    class_counts: by split, of the first fold. command: trains the same again. model_choice: what
    `--model auto` found, as a ModelChoice's JSON.
    """

    row: RunRow
    settings: tuple[Setting, ...]
    fingerprint: str | None
    class_names: tuple[str, ...]
    class_counts: dict[str, dict[str, int]]
    splitter: str | None
    folds: tuple[FoldDetails, ...]
    evaluations: tuple[EvaluatedSplit, ...]
    versions: dict[str, str | None]
    command: str
    model_choice: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Removable(Record):
    """What nothing needs: an old checkpoint, a cache, or what a killed command left.

    run: the name of the run that it lies in, None outside of any.
    """

    kind: Literal["checkpoint", "cache", "leftover"]
    path: Path
    size_bytes: int
    run: str | None = None


@dataclass(frozen=True)
class PruneReport(Record):
    """What can go, or has gone. left_alone: why something was not looked at or not removed."""

    items: tuple[Removable, ...]
    size_bytes: int
    removed: bool
    left_alone: tuple[str, ...] = ()


@dataclass(frozen=True)
class SettingDiff(Record):
    """An option that two runs have at other values, by its dotted name."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class MovedPicture(Record):
    """A picture that two runs have in other splits or folds."""

    path: str
    a: str
    b: str


@dataclass(frozen=True)
class DataDiff(Record):
    """How the pictures of two runs differ, by their paths in splits.csv.

    same: by the fingerprints in their checkpoints; None where one has none. pictures_a, pictures_b:
    by split, of the first fold. only_a, only_b: how many only one of them has. relabelled: how many
    are of another class.
    """

    same: bool | None
    fingerprint_a: str | None
    fingerprint_b: str | None
    pictures_a: dict[str, int]
    pictures_b: dict[str, int]
    classes_only_a: tuple[str, ...]
    classes_only_b: tuple[str, ...]
    only_a: int
    only_b: int
    relabelled: int
    moved: tuple[MovedPicture, ...]


@dataclass(frozen=True)
class MetricDiff(Record):
    """A metric of two runs, each with its own 95% interval; difference: b less a.

    interval: of the difference, paired; None where they were not scored on the same pictures.
    """

    a: float
    b: float
    interval_a: Interval | None
    interval_b: Interval | None
    difference: float
    interval: Interval | None


@dataclass(frozen=True)
class SplitDiff(Record):
    """Two runs on one split, by metric; paired: on the very same pictures.

    mcnemar: of b against a. note: why they are not paired, or have no intervals.
    """

    split: str
    pictures_a: int
    pictures_b: int
    paired: bool
    metrics: dict[str, MetricDiff]
    mcnemar: McNemar | None = None
    note: str | None = None


@dataclass(frozen=True)
class RunDiff(Record):
    """How two runs differ: what they were told, their pictures, and how they score."""

    a: RunRow
    b: RunRow
    settings: tuple[SettingDiff, ...]
    data: DataDiff
    splits: tuple[SplitDiff, ...]
    notes: tuple[str, ...] = ()
