"""What the weights of the moment score on the validation pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from imgcls.engine.checkpoint.checkpointer import Checkpointer
from imgcls.engine.device.runtime import derive_seed, set_seed, set_tf32
from imgcls.engine.scoring.inference import predict
from imgcls.engine.training.events import Event, Interpolated, ValidationBatchDone
from imgcls.engine.training.interrupt import StopRequest
from imgcls.engine.training.parts import FitSettings, Parts
from imgcls.engine.training.selection.interpolation import SHARES
from imgcls.engine.training.step import calmer, rates
from imgcls.errors import InterruptedRunError, NonFiniteError
from imgcls.metrics.calculator import validation_metrics
from imgcls.metrics.calibration import fit_temperature


def interpolate(
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
        metrics = scores(parts, settings, checkpointer, emit, stop)
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


def scores(
    parts: Parts,
    settings: FitSettings,
    checkpointer: Checkpointer,
    emit: Callable[[Event], None],
    stop: StopRequest,
) -> dict[str, float | None]:
    """The `val_` metrics of the weights as they are; a stop is heard between two batches."""
    epoch = epoch_under_way(parts, settings)

    def after_batch(samples: int) -> None:
        emit(ValidationBatchDone(epoch, samples))
        if stop:
            save_now(parts, checkpointer)
            raise interrupted(epoch, stop)

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


def epoch_under_way(parts: Parts, settings: FitSettings) -> int:
    """The number that the row to come will have: 0 for a fitted classifier without one yet.

    Behind the last epoch that one's.
    """
    if parts.progress.trained:
        return parts.progress.epoch
    if settings.score_first and not parts.history.rows:
        return 0
    return parts.progress.epoch + 1


def save_now(parts: Parts, checkpointer: Checkpointer) -> None:
    checkpointer.save(parts.progress, parts.history, is_best=False)
    checkpointer.wait()


def interrupted(epoch: int, stop: StopRequest) -> InterruptedRunError:
    when = f"in epoch {epoch}" if epoch else "before the first epoch"
    return InterruptedRunError(
        f"stopped {stop.reason or 'by a signal'} {when}; everything is saved",
        stop.signal_number or 2,
    )
