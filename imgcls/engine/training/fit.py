"""THE LOOP: train one fold from wherever its state says it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from torch import nn

from imgcls.engine.checkpoint.checkpointer import Checkpointer
from imgcls.engine.device.batches import Batch, Normalizer
from imgcls.engine.device.runtime import derive_seed, set_seed, set_tf32
from imgcls.engine.scoring.features import whole_model
from imgcls.engine.scoring.inference import predict
from imgcls.engine.training.events import (
    EpochDone,
    Event,
    FoldStarted,
    Interpolated,
    StepDone,
    Stopped,
    ValidationBatchDone,
)
from imgcls.engine.training.interpolation import SHARES, Interpolation
from imgcls.engine.training.interrupt import StopRequest
from imgcls.engine.training.optim import OptimizerState
from imgcls.engine.training.state import History, Progress, RandomState, Stateful, TrainState
from imgcls.engine.training.step import Learner, calmer, rates, train_step
from imgcls.engine.training.trackers import MetricTracker
from imgcls.errors import (
    BadImageError,
    InterruptedRunError,
    NonFiniteError,
    ReadError,
    RunFailedError,
    WorkerError,
)
from imgcls.metrics.calculator import validation_metrics
from imgcls.metrics.calibration import fit_temperature


class TrainBatches(Protocol):
    """Training pictures, as lists of micro-batches, one list an update."""

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one epoch."""

    def steps(self, epoch: int, start_step: int = 0) -> Iterator[Sequence[Batch]]:
        """The epoch's lists from update `start_step` on, the same on every machine."""


class EvalBatches(Protocol):
    """Pictures to score, in order."""

    def __iter__(self) -> Iterator[Batch]: ...
    def __len__(self) -> int: ...


@dataclass
class Parts:
    """One fold's parts. Those with state are also in its TrainState.

    calibrates: a temperature is fitted on the validation pictures of each epoch. val_groups: the
    group of each of them by its key, "" for one of its own; None where no picture has one.
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


def fit(
    parts: Parts,
    settings: FitSettings,
    checkpointer: Checkpointer,
    emit: Callable[[Event], None],
    stop: StopRequest,
) -> None:
    """Train until the last epoch or early stopping; the outcome is in the parts and on disk.

    Raises InterruptedRunError, after saving, when `stop` was asked for, and, after saving, the
    loaders' errors; NonFiniteError leaves the last checkpoint as it is.
    """
    progress, history = parts.progress, parts.history
    emit(_fold_started(parts, settings))
    chosen: Interpolated | None = None
    with _saving_when_loaders_fail(parts, settings, checkpointer, stop):
        while not progress.finished:
            if not progress.trained:
                _epoch(parts, settings, checkpointer, emit, stop)
            if progress.trained:
                chosen = _interpolate(parts, settings, checkpointer, emit, stop)
                progress.finished = True
            checkpointer.after_epoch(
                progress,
                history,
                # a stop behind the last epoch has saved it before this was known
                improved=parts.tracker.best_epoch == progress.epoch,
                share=None if chosen is None else chosen.share,
                metrics=None if chosen is None else chosen.metrics,
            )
    checkpointer.wait()
    emit(
        Stopped(
            settings.fold,
            progress.stopped_early,
            progress.epoch,
            parts.tracker.best_epoch,
            None if chosen is None else chosen.share,
        )
    )


def _epoch(
    parts: Parts,
    settings: FitSettings,
    checkpointer: Checkpointer,
    emit: Callable[[Event], None],
    stop: StopRequest,
) -> None:
    """Train and validate an epoch; the fitted classifier is validated as it is."""
    progress, history = parts.progress, parts.history
    trains = _epoch_under_way(parts, settings) > 0
    if trains:
        _train_rest_of_epoch(parts, settings, checkpointer, emit, stop)
    elif parts.interpolation is not None:
        parts.interpolation.begin()
    metrics = _validate(parts, settings, checkpointer, emit, stop)
    if trains:
        progress.complete_epoch()
    row = {"epoch": progress.epoch, **metrics}
    history.append(row)
    improved = parts.tracker.update(progress.epoch, row)
    out_of_patience = parts.tracker.should_stop(settings.patience)
    progress.decide(settings.epochs, out_of_patience=out_of_patience)
    emit(EpochDone(progress.epoch, improved, tuple(history.rows)))


def _interpolate(
    parts: Parts,
    settings: FitSettings,
    checkpointer: Checkpointer,
    emit: Callable[[Event], None],
    stop: StopRequest,
) -> Interpolated | None:
    """The best of the weights between the fitted classifier's and the last epoch's.

    The model then has them. None, and the last epoch's weights, where none is better than the best
    epoch.
    """
    line, epoch = parts.interpolation, parts.progress.epoch
    if line is None or not line.has_start or not epoch:
        return None
    found = []
    for share in SHARES:
        line.go_to(share)
        metrics = _scores(parts, settings, checkpointer, emit, stop)
        found.append(
            Interpolated(epoch, share, {**parts.history.rows[-1], "train_loss": None, **metrics})
        )
    chosen = None
    # behind the last, because a stop between them begins with the first again
    for each in found:
        better = parts.tracker.update(epoch, each.metrics)
        emit(replace(each, improved=better))
        chosen = each if better else chosen
    if chosen is None:
        line.go_back()
    else:
        line.go_to(chosen.share)
    return chosen


def _epoch_under_way(parts: Parts, settings: FitSettings) -> int:
    """The number that the row to come will have: 0 for a fitted classifier without one yet.

    Behind the last epoch that one's.
    """
    if parts.progress.trained:
        return parts.progress.epoch
    if settings.score_first and not parts.history.rows:
        return 0
    return parts.progress.epoch + 1


def _train_rest_of_epoch(
    parts: Parts,
    settings: FitSettings,
    checkpointer: Checkpointer,
    emit: Callable[[Event], None],
    stop: StopRequest,
) -> None:
    progress, learner = parts.progress, parts.learner
    learner.begin_epoch(progress.epoch)
    steps = parts.train_batches.steps(progress.epoch, progress.step_in_epoch)
    start_s = time.monotonic() - progress.elapsed_s
    for micro_batches in steps:
        # dropout, stochastic depth, erasing and mixup follow from the step, not from the past
        set_seed(derive_seed(settings.seed, "step", settings.fold, progress.step))
        progress.lr = learner.schedule.lr
        loss_sum, samples = train_step(learner, micro_batches, progress.step)
        progress.step += 1
        progress.step_in_epoch += 1
        progress.loss_sum += loss_sum
        progress.samples += samples
        progress.elapsed_s = time.monotonic() - start_s
        emit(
            StepDone(
                progress.epoch + 1, progress.step_in_epoch, loss_sum / samples, progress.lr, samples
            )
        )
        if stop:
            _save_now(parts, checkpointer)
            raise _interrupted(_epoch_under_way(parts, settings), stop)
        if progress.step_in_epoch < parts.train_batches.steps_per_epoch:
            checkpointer.after_step(progress, parts.history)


def _validate(
    parts: Parts,
    settings: FitSettings,
    checkpointer: Checkpointer,
    emit: Callable[[Event], None],
    stop: StopRequest,
) -> dict[str, float | None]:
    progress, start_s = parts.progress, time.monotonic()
    metrics = _scores(parts, settings, checkpointer, emit, stop)
    return {
        "train_loss": progress.loss_sum / progress.samples if progress.samples else None,
        **metrics,
        "lr": progress.lr,
        "epoch_time": progress.elapsed_s + time.monotonic() - start_s,
    }


def _scores(
    parts: Parts,
    settings: FitSettings,
    checkpointer: Checkpointer,
    emit: Callable[[Event], None],
    stop: StopRequest,
) -> dict[str, float | None]:
    """The `val_` metrics of the weights as they are; a stop is heard between two batches."""
    epoch = _epoch_under_way(parts, settings)

    def after_batch(samples: int) -> None:
        emit(ValidationBatchDone(epoch, samples))
        if stop:
            _save_now(parts, checkpointer)
            raise _interrupted(epoch, stop)

    set_seed(derive_seed(settings.seed, "validation", settings.fold, parts.progress.epoch))
    return validate_epoch(parts, after_batch)


def validate_epoch(
    parts: Parts, on_batch: Callable[[int], None] = lambda _samples: None
) -> dict[str, float | None]:
    """Score the validation pictures with the weights as they are now: the `val_` metrics."""
    # as the epochs are, whatever was scored in this process since
    set_tf32(parts.learner.compute.device, allowed=True)
    try:
        result = predict(
            parts.eval_model, parts.val_batches, parts.normalizer, parts.learner.compute, on_batch
        )
    except NonFiniteError as error:
        progress, learner = parts.progress, parts.learner
        raise NonFiniteError(
            f"after step {progress.step} ({rates(learner, progress.lr)}) {error}; the last "
            f"checkpoint is as it was; {calmer(learner)}"
        ) from error
    metrics = validation_metrics(result.predictions)
    if parts.calibrates:
        predictions, of = result.predictions, parts.val_groups
        groups = None if of is None else [of[key] for key in predictions.keys]
        # the pictures have also chosen the epoch: only ever soften by them
        found = fit_temperature(predictions.logits, predictions.labels, lowest=1.0, groups=groups)
        calibrated = replace(predictions, temperature=found.temperature)
        metrics["val_temperature"] = found.temperature
        metrics["val_calibrated_loss"] = float(calibrated.picture_losses.mean())
    return metrics


def _fold_started(parts: Parts, settings: FitSettings) -> FoldStarted:
    return FoldStarted(
        fold=settings.fold,
        folds=settings.folds,
        folder=settings.folder,
        epochs=settings.epochs,
        steps_per_epoch=parts.train_batches.steps_per_epoch,
        val_batches=len(parts.val_batches),
        epoch=parts.progress.epoch,
        step_in_epoch=parts.progress.step_in_epoch,
        history=tuple(parts.history.rows),
        monitor=parts.tracker.metric,
        calibrates=parts.calibrates,
        trained=parts.progress.trained,
    )


@contextlib.contextmanager
def _saving_when_loaders_fail(
    parts: Parts, settings: FitSettings, checkpointer: Checkpointer, stop: StopRequest
) -> Iterator[None]:
    """Save when pictures cannot be loaded: batches are waited for between two whole updates.

    While a stop is wanted, a loader process that dies was sent the same signal, and it is the stop.
    """
    try:
        yield
    except (WorkerError, ReadError, BadImageError) as error:
        if stop and isinstance(error, WorkerError):
            _save_now(parts, checkpointer)
            raise _interrupted(_epoch_under_way(parts, settings), stop) from error
        if parts.progress.step:
            try:
                _save_now(parts, checkpointer)
            except (RunFailedError, OSError) as lost:
                # where the disk is what failed, the last checkpoint has to do
                error.details = (*error.details, str(lost))
        raise


def _save_now(parts: Parts, checkpointer: Checkpointer) -> None:
    checkpointer.save(parts.progress, parts.history, is_best=False)
    checkpointer.wait()


def _interrupted(epoch: int, stop: StopRequest) -> InterruptedRunError:
    when = f"in epoch {epoch}" if epoch else "before the first epoch"
    return InterruptedRunError(
        f"stopped {stop.reason or 'by a signal'} {when}; everything is saved",
        stop.signal_number or 2,
    )
