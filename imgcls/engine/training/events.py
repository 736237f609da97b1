"""What the loop tells its observers. They read; they cannot steer.

Only an exception of theirs is heard: see `broadcast`.

Epochs are counted from 1, and the fitted classifier before the first is epoch 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imgcls.results.models import Candidate, ModelChoice


@dataclass(frozen=True)
class ChoiceStarted:
    """Models are compared, these in turn, on so many pictures `of` those that are trained on."""

    models: tuple[str, ...]
    pictures: int
    of: int


@dataclass(frozen=True)
class CandidateDone:
    """A model to choose from was measured, or left out."""

    candidate: Candidate


@dataclass(frozen=True)
class ModelChosen:
    """The model of the run is chosen."""

    choice: ModelChoice


@dataclass(frozen=True)
class FoldStarted:
    """A fold begins, or goes on behind `epoch` epochs and `step_in_epoch` updates of the next.

    folds: all that the run trains, this one among them. monitor: the metric that chooses the best
    epoch; calibrates: validation also gives val_calibrated_loss. trained: all epochs are behind it.
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
    monitor: str
    calibrates: bool
    trained: bool = False


@dataclass(frozen=True)
class Resumed:
    """A fold goes on from this checkpoint; `problems` say why newer ones were passed over.

    inexact: what is not as it was, so that the result will not be an uninterrupted run's, bit for
    bit.
    """

    folder: Path
    problems: tuple[str, ...]
    inexact: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeaturesDone:
    """The features of `done` of `total` pictures (views counted apart) are computed."""

    done: int
    total: int


@dataclass(frozen=True)
class HeadPassDone:
    """The fit of the classifier has passed over its features so often, of `most` times at most."""

    done: int
    most: int


@dataclass(frozen=True)
class HeadFitted:
    """The classifier alone was fitted by logistic regression.

    c: scikit-learn's C, chosen in `folds` inner folds, in 1 by a held-out tenth. Of elapsed_s,
    features_s went into features; 0 when another fold had computed them. reason: why c is to be
    doubted, or None.
    """

    pictures: int
    views: int
    c: float
    folds: int
    features_s: float
    elapsed_s: float
    reason: str | None = None


@dataclass(frozen=True)
class StepDone:
    """One update of the epoch under way was made. `loss` is the mean over the step's pictures."""

    epoch: int
    step_in_epoch: int
    loss: float
    lr: float
    samples: int


@dataclass(frozen=True)
class ValidationBatchDone:
    """One validation batch of the epoch under way was scored."""

    epoch: int
    samples: int


@dataclass(frozen=True)
class EpochDone:
    """One epoch was trained, unless it is epoch 0, and validated. `history` ends with its row."""

    epoch: int
    improved: bool
    history: tuple[Mapping[str, float | None], ...]


@dataclass(frozen=True)
class Interpolated:
    """Weights at a share of the way from the fitted classifier's to the last epoch's, validated.

    epoch: the last one. metrics: its row, with the `val_` metrics of these weights. improved: they
    are the best so far.
    """

    epoch: int
    share: float
    metrics: Mapping[str, float | None]
    improved: bool = False


@dataclass(frozen=True)
class Saved:
    """A checkpoint is complete on disk; `problems` say why older ones could not be removed.

    epoch: how many are behind it; those will not be trained again.
    """

    folder: Path
    epoch: int
    is_best: bool
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stopped:
    """The fold ended behind `epoch` epochs: all of them, or fewer by early stopping.

    best_epoch: None when no epoch had a usable metric. chosen: the weights on the way to the last
    epoch that are kept; None where those of an epoch are.
    """

    fold: int
    early: bool
    epoch: int
    best_epoch: int | None
    chosen: Interpolated | None = None


@dataclass(frozen=True)
class ImageSkipped:
    """A picture that cannot be read is left out from here on; told once a fold for each.

    key: its name in the data; location: where it lies.
    """

    key: str
    label: str
    location: str
    reason: str


@dataclass(frozen=True)
class Evaluated:
    """The fold's best epoch, this one, was evaluated into the folder `results`."""

    epoch: int
    results: Path


@dataclass(frozen=True)
class RunEnded:
    """The run was trained to its end, or is left as it is; no event follows."""

    status: Literal["finished", "stopped", "failed"]


@dataclass(frozen=True)
class TrackerFailed:
    """A tracker does not log from here on, while training goes on."""

    name: str
    reason: str

    def __str__(self) -> str:
        return (
            f"--log {self.name}: failed, and logs no more of this run until it goes on or is "
            f"evaluated: {self.reason}"
        )


Event = (
    FoldStarted
    | ImageSkipped
    | Resumed
    | FeaturesDone
    | HeadPassDone
    | HeadFitted
    | StepDone
    | ValidationBatchDone
    | EpochDone
    | Interpolated
    | Saved
    | Stopped
    | Evaluated
    | RunEnded
    | TrackerFailed
)
Observer = Callable[[Event], None]
# what is told while a model is chosen, before there is a run
ChoiceEvent = ChoiceStarted | FeaturesDone | CandidateDone | ModelChosen


def broadcast(observers: Sequence[Observer]) -> Observer:
    """One function that tells every observer, in this order.

    An exception of an observer passes through, unseen by those behind it, and ends the training as
    an error of the loop's own: the last checkpoint is good. So the writer of `history.csv` says
    that the disk is full. An observer that must not end the training catches what it can do
    without.
    """

    def emit(event: Event) -> None:
        for observer in observers:
            observer(event)

    return emit
