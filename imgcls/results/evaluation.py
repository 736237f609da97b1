"""What an evaluation and its page return."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgcls.results.audit import AuditPicture
from imgcls.results.comparison import Comparison, Difference, Interval, TrainedOn
from imgcls.results.record import Record
from imgcls.results.unknown import Conformal, Unlike


@dataclass(frozen=True)
class ClassScores(Record):
    """One class's pictures in the truth (support) and among the predictions, and its scores.

    A score that the class has no pictures for is None.
    """

    class_name: str = field(metadata={"key": "class"})
    support: int
    predicted: int
    precision: float | None
    recall: float | None
    f1: float | None
    roc_auc: float | None
    average_precision: float | None


@dataclass(frozen=True)
class Confusion(Record):
    """How many pictures of one class were taken for another."""

    true: str
    predicted: str
    count: int


@dataclass(frozen=True)
class CalibrationScores(Record):
    """How far probabilities can be taken at their word.

    reliability: columns by name of the bins that hold pictures; see `reliability_bins`.
    """

    nll: float
    brier: float
    ece: float
    ece_equal_mass: float
    classwise_ece: float
    reliability: dict[str, list[float]]


@dataclass(frozen=True)
class Calibration(Record):
    """The temperature that the logits were divided by, and the scores before and after it.

    It was fitted on `samples` pictures of the split fitted_on. reason: what to know of it.
    """

    temperature: float
    fitted_on: str
    samples: int
    reason: str | None
    before: CalibrationScores
    after: CalibrationScores


@dataclass(frozen=True)
class CrossValidation(Record):
    """Each metric over the folds: mean, std (ddof=1) and the interval of the mean, by name.

    None where some fold lacks it. per_fold: rows of fold, best_epoch and the fold's metrics.
    """

    folds: int
    splitter: str | None
    mean: dict[str, float | None]
    std: dict[str, float | None]
    interval: dict[str, Interval]
    per_fold: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class EnsembleGain(Record):
    """The folds and views that were averaged, and the gain over the mean of the folds alone.

    temperatures: one a fold. models: one a fold, where they are different ones. split, metrics,
    intervals: where the report itself is of other pictures than the ensemble was scored on.
    """

    folds: tuple[int, ...]
    tta: str
    views: int
    temperatures: tuple[float | None, ...]
    samples: int
    gain: dict[str, Difference]
    split: str | None = field(default=None, metadata={"left_out": True})
    metrics: dict[str, Any] | None = field(default=None, metadata={"left_out": True})
    intervals: dict[str, Interval] | None = field(default=None, metadata={"left_out": True})
    models: tuple[str, ...] | None = field(default=None, metadata={"left_out": True})


@dataclass(frozen=True)
class CoveragePoint(Record):
    """Accuracy when only pictures from a confidence on, the threshold, are answered.

    wanted: the share to answer; coverage: the share answered, of so many pictures.
    """

    wanted: float
    coverage: float
    threshold: float
    pictures: int
    accuracy: float


@dataclass(frozen=True)
class OperatingPoint(Record):
    """The threshold on a class's probability with the highest F1, and what it gives.

    All None where held_out_f1 is no better than predicted_f1, as the reason then says.
    """

    class_name: str = field(metadata={"key": "class"})
    threshold: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    held_out_f1: float
    predicted_f1: float
    reason: str | None


@dataclass(frozen=True)
class MeanCost(Record):
    """The mean cost of a picture's decision, and its 95% interval."""

    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class Costs(Record):
    """What decisions cost by the table in a file: the predicted class, and the cheapest one.

    changed: the pictures for which the two differ.
    """

    file: Path
    predicted: MeanCost
    least_cost: MeanCost
    saved: MeanCost
    changed: int


@dataclass(frozen=True)
class Slice(Record):
    """The pictures of one value of a column: their metrics, and intervals by metric name."""

    value: str
    samples: int
    metrics: dict[str, float]
    intervals: dict[str, Interval]


@dataclass(frozen=True)
class CorruptionScores(Record):
    """What is scored under a corruption, and how far it drops."""

    accuracy: float
    balanced_accuracy: float


@dataclass(frozen=True)
class CorruptionRow(Record):
    """The scores under one kind of corruption: by severity, their mean, and its drop from clean."""

    corruption: str
    severities: tuple[CorruptionScores, ...]
    mean: CorruptionScores
    drop: CorruptionScores


@dataclass(frozen=True)
class Corruptions(Record):
    """Scores on clean and on worse pictures; mean, drop: over all kinds."""

    clean: CorruptionScores
    by_corruption: tuple[CorruptionRow, ...]
    mean: CorruptionScores
    drop: CorruptionScores


@dataclass(frozen=True)
class ThresholdCheck(Record):
    """Whether a metric reached its threshold; an undefined one does not."""

    value: float | None
    at_least: float
    passed: bool


@dataclass(frozen=True)
class Prior(Record):
    """How common the model takes each class to be, and the method of `--imbalance` behind that."""

    imbalance: str
    shares: dict[str, float]


@dataclass(frozen=True)
class EvalReport(Record):
    """One evaluated split. `metrics` may hold None; `undefined` then says why, by metric name.

    confusion_matrix: rows true, columns predicted; () beyond 2,000 classes.
    confusions: the commonest mistakes.
    intervals: (low, high) by metric name, made as `intervals_method` says.
    cross_validation: where the report is of the folds' pooled pictures.
    fold: "all" where several took part.
    slices: rows by `--by` column.
    thresholds: those of `--fail-under`, by metric name.
    prior: None for a checkpoint that does not say.
    bad_images: pictures that could not be read and were left out, each with the reason as its note.
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
    per_class: tuple[ClassScores, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    confusions: tuple[Confusion, ...] = ()
    folder: Path | None = None
    page: Path | None = None
    intervals: dict[str, Interval] = field(default_factory=dict)
    intervals_method: str | None = None
    calibration: Calibration | None = None
    cross_validation: CrossValidation | None = None
    ensemble: EnsembleGain | None = None
    coverage: tuple[CoveragePoint, ...] = ()
    operating_points: tuple[OperatingPoint, ...] = ()
    costs: Costs | None = None
    slices: dict[str, tuple[Slice, ...]] = field(default_factory=dict)
    comparison: Comparison | None = None
    corruptions: Corruptions | None = None
    thresholds: dict[str, ThresholdCheck] = field(default_factory=dict)
    bad_images: tuple[AuditPicture, ...] = ()
    notes: tuple[str, ...] = ()
    prior: Prior | None = None
    trained_on: TrainedOn | None = None
    conformal: Conformal | None = None
    unlike: Unlike | None = None


@dataclass(frozen=True)
class PageReport(Record):
    """The page and the pictures (PNG; an SVG lies beside each) made of an evaluated split."""

    page: Path
    pictures: tuple[Path, ...]
    notes: tuple[str, ...] = ()
