"""One fold's parts, and what the loop must know beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import nn

from imgcls.engine.device.batches import Batch, Normalizer, TrainBatch
from imgcls.engine.scoring.features import whole_model
from imgcls.engine.training.optim import OptimizerState
from imgcls.engine.training.selection.interpolation import Interpolation
from imgcls.engine.training.selection.trackers import MetricTracker
from imgcls.engine.training.state import History, Progress, RandomState, Stateful, TrainState
from imgcls.engine.training.step import Learner


class TrainBatches(Protocol):
    """Training pictures, as lists of micro-batches, one list an update."""

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one epoch."""

    def steps(self, epoch: int, start_step: int = 0) -> Iterator[Sequence[TrainBatch]]:
        """The epoch's lists from update `start_step` on, the same on every machine."""


class Checkpoints(Protocol):
    """What decides when the parts are saved, and saves them."""

    def after_step(self, progress: Progress, history: History) -> None:
        """Save inside an epoch, where it is time."""

    def after_epoch(
        self,
        progress: Progress,
        history: History,
        *,
        improved: bool,
        share: float | None = None,
        metrics: Mapping[str, float | None] | None = None,
    ) -> None:
        """Save behind an epoch, where it is wanted."""

    def save(self, progress: Progress, history: History, *, is_best: bool) -> None:
        """Save now."""

    def wait(self) -> None:
        """Return when what was saved is on disk."""


class EvalBatches(Protocol):
    """Pictures to score, in order."""

    def __iter__(self) -> Iterator[Batch]: ...
    def __len__(self) -> int: ...


@dataclass
class Parts:
    """One fold's parts. Those with state are also in its TrainState.

    calibrates: a temperature is fitted on the validation pictures of each epoch. grows_too_sure:
    see `Recipe`. val_groups: the group of each of them by its key, "" for one of its own; None
    where no picture has one.
    interpolation: where the weights between the fitted classifier's and the last epoch's compete
    for the best ones.
    """

    learner: Learner
    train_batches: TrainBatches
    val_batches: EvalBatches
    normalizer: Normalizer
    progress: Progress
    tracker: MetricTracker
    history: History
    random_state: RandomState
    calibrates: bool
    grows_too_sure: bool
    val_groups: Mapping[str, str] | None
    interpolation: Interpolation | None = None

    @property
    def eval_model(self) -> nn.Module:
        """The model that is validated and saved: the average of the weights where there is one."""
        average = self.learner.average
        return self.learner.model if average is None else average.model

    def train_state(self) -> TrainState:
        """Every part that has a state, by its name in the checkpoint."""
        learner = self.learner
        raw: dict[str, Stateful] = {} if learner.average is None else {"model": learner.model}
        if self.interpolation is not None:
            raw["interpolation"] = self.interpolation
        return TrainState(
            whole_model(self.eval_model),
            progress=self.progress,
            tracker=self.tracker,
            history=self.history,
            optimizer=OptimizerState(learner.optimizer),
            schedule=learner.schedule,
            scaler=learner.scaler,
            rng=self.random_state,
            **raw,
        )


@dataclass(frozen=True)
class FitSettings:
    """What the loop must know beside the parts.

    epochs: 0 when there is nothing to train by epochs. score_first: the classifier was fitted, and
    competes for the best epoch as epoch 0. folds: all that the run trains.
    """

    fold: int
    folds: tuple[int, ...]
    folder: Path
    epochs: int
    score_first: bool
    patience: int
    seed: int
