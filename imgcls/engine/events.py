"""What the loop tells its observers. They read; they cannot steer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FoldStarted:
    """A fold begins, or goes on at (`epoch`, `step_in_epoch`) when it was resumed.

    folds: all that the run trains, this one among them.
    """

    fold: int
    folds: tuple[int, ...]
    folder: Path
    epochs: int
    steps_per_epoch: int
    val_batches: int
    epoch: int
    step_in_epoch: int
    history: tuple[Mapping[str, float | None], ...]


@dataclass(frozen=True)
class Resumed:
    """A fold goes on from this checkpoint; `problems` say why newer ones were passed over."""

    folder: Path
    problems: tuple[str, ...]


@dataclass(frozen=True)
class FeaturesDone:
    """The features of `done` of `total` pictures (views counted apart) are computed."""

    done: int
    total: int


@dataclass(frozen=True)
class HeadFitted:
    """The classifier alone was fitted by logistic regression.

    c: scikit-learn's C, chosen in `folds` inner folds. Of elapsed_s, features_s went into features;
    0 when another fold had computed them.
    """

    pictures: int
    views: int
    c: float
    folds: int
    features_s: float
    elapsed_s: float


@dataclass(frozen=True)
class StepDone:
    """One update was made. `loss` is the mean over the step's pictures."""

    epoch: int
    step_in_epoch: int
    loss: float
    lr: float
    samples: int


@dataclass(frozen=True)
class ValidationBatchDone:
    """One validation batch was scored."""

    epoch: int
    samples: int


@dataclass(frozen=True)
class EpochDone:
    """One epoch was trained and validated. `history` ends with its row.

    epoch: -1 for the fitted classifier, validated before anything else is trained.
    """

    epoch: int
    improved: bool
    history: tuple[Mapping[str, float | None], ...]


@dataclass(frozen=True)
class Saved:
    """A checkpoint is complete on disk."""

    folder: Path
    is_best: bool


@dataclass(frozen=True)
class Stopped:
    """The fold ended: all epochs done, or early stopping."""

    fold: int
    early: bool
    best_epoch: int
    best_value: float | None


@dataclass(frozen=True)
class ImageSkipped:
    """A picture that cannot be read is left out from here on; told once for each."""

    location: str
    reason: str


Event = (
    FoldStarted
    | ImageSkipped
    | Resumed
    | FeaturesDone
    | HeadFitted
    | StepDone
    | ValidationBatchDone
    | EpochDone
    | Saved
    | Stopped
)
Observer = Callable[[Event], None]
