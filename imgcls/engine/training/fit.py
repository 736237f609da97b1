"""THE LOOP: train one fold from wherever its state says it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from imgcls.engine.device.runtime import derive_seed, set_seed
from imgcls.engine.training.events import (
    EpochDone,
    Event,
    FoldStarted,
    Interpolated,
    StepDone,
    Stopped,
)
from imgcls.engine.training.interrupt import StopRequest
from imgcls.engine.training.parts import Checkpoints, FitSettings, Parts
from imgcls.engine.training.selection.validation import (
    choose_weights,
    epoch_under_way,
    interrupted,
    save_now,
    scores,
)
from imgcls.engine.training.step import train_step
from imgcls.errors import BadImageError, ReadError, RunFailedError, WorkerError


def fit(
    parts: Parts,
    settings: FitSettings,
    checkpointer: Checkpoints,
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
                chosen = choose_weights(parts, settings, checkpointer, emit, stop)
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
            chosen,
        )
    )


def _epoch(
    parts: Parts,
    settings: FitSettings,
    checkpointer: Checkpoints,
    emit: Callable[[Event], None],
    stop: StopRequest,
) -> None:
    """Train and validate an epoch; the fitted classifier is validated as it is."""
    progress, history = parts.progress, parts.history
    trains = epoch_under_way(parts, settings) > 0
    if trains:
        _train_rest_of_epoch(parts, settings, checkpointer, emit, stop)
    elif parts.interpolation is not None:
        parts.interpolation.begin()
    start_s = time.monotonic()
    validated = scores(parts, settings, checkpointer, emit, stop)
    row = {
        "train_loss": progress.loss_sum / progress.samples if progress.samples else None,
        **validated.metrics,
        "lr": progress.lr,
        "epoch_time": progress.elapsed_s + time.monotonic() - start_s,
    }
    if trains:
        progress.complete_epoch()
        if parts.learner.parallel is not None:
            parts.learner.parallel.require_same(parts.eval_model)
    row = {"epoch": progress.epoch, **row}
    history.append(row)
    improved = parts.tracker.update(progress.epoch, row)
    if parts.interpolation is not None:
        parts.interpolation.keep(validated, is_head=not trains, is_best=improved)
    out_of_patience = parts.tracker.should_stop(settings.patience)
    progress.decide(settings.epochs, out_of_patience=out_of_patience)
    emit(EpochDone(progress.epoch, improved, tuple(history.rows)))


def _train_rest_of_epoch(
    parts: Parts,
    settings: FitSettings,
    checkpointer: Checkpoints,
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
            save_now(parts, checkpointer)
            raise interrupted(epoch_under_way(parts, settings), stop)
        if progress.step_in_epoch < parts.train_batches.steps_per_epoch:
            checkpointer.after_step(progress, parts.history)


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
    parts: Parts, settings: FitSettings, checkpointer: Checkpoints, stop: StopRequest
) -> Iterator[None]:
    """Save when pictures cannot be loaded: batches are waited for between two whole updates.

    While a stop is wanted, a loader process that dies was sent the same signal, and it is the stop.
    """
    try:
        yield
    except (WorkerError, ReadError, BadImageError) as error:
        if parts.learner.parallel is not None:
            # what others have to be there for, saving may be
            parts.learner.parallel.world.tell(error)
        if stop and isinstance(error, WorkerError):
            save_now(parts, checkpointer)
            raise interrupted(epoch_under_way(parts, settings), stop) from error
        if parts.progress.step:
            try:
                save_now(parts, checkpointer)
            except (RunFailedError, OSError) as lost:
                # where the disk is what failed, the last checkpoint has to do
                error.details = (*error.details, str(lost))
        raise
