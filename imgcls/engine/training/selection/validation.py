"""What the weights of the moment score on the validation pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from imgcls.engine.device.runtime import derive_seed, set_seed, set_tf32
from imgcls.engine.scoring.inference import InferencePass, predict
from imgcls.engine.training.events import Event, Interpolated, ValidationBatchDone
from imgcls.engine.training.interrupt import StopRequest
from imgcls.engine.training.parallel.data_parallel import BreakOff
from imgcls.engine.training.parts import Checkpoints, FitSettings, Parts
from imgcls.engine.training.selection.choice import Validated, first_as_good
from imgcls.engine.training.selection.interpolation import SHARES
from imgcls.engine.training.step import calmer, rates
from imgcls.errors import InterruptedRunError, NonFiniteError
from imgcls.metrics.calculator import validation_metrics
from imgcls.metrics.calibration import fit_temperature
from imgcls.metrics.resampling import unit_numbers


def choose_weights(
    parts: Parts,
    settings: FitSettings,
    checkpointer: Checkpoints,
    emit: Callable[[Event], None],
    stop: StopRequest,
) -> Interpolated | None:
    """The weights to keep, where those from the fitted classifier's to the last epoch's compete.

    In this order, see `first_as_good`: the last epoch's, those on the way back to the classifier's,
    the best epoch's, the classifier's. The model then has them. None, and the last epoch's, where
    an epoch's own weights are the ones to keep.
    """
    line, tracker, epoch = parts.interpolation, parts.tracker, parts.progress.epoch
    if line is None or not line.has_start or not epoch or tracker.best_epoch is None:
        return None
    between: list[tuple[float, Validated]] = []
    for share in SHARES:
        line.go_to(share)
        between.append((share, scores(parts, settings, checkpointer, emit, stop)))
    line.go_back()
    candidates: list[tuple[float | None, Validated]] = [(1.0, line.kept["last"]), *between]
    if tracker.best_epoch not in (0, epoch):
        candidates.append((None, line.kept["best"]))
    candidates.append((0.0, line.kept["head"]))
    chosen, validated = candidates[first_as_good([each for _, each in candidates], tracker.metric)]
    row = {**parts.history.rows[-1], "train_loss": None}
    for share, each in between:
        emit(Interpolated(epoch, share, {**row, **each.metrics}, improved=share == chosen))
    if chosen is None or (chosen == 0 and tracker.best_epoch == 0):
        return None
    tracker.take(epoch, validated.metrics)
    line.kept["best"] = validated
    if chosen == 1:
        return None
    line.go_to(chosen)
    return Interpolated(epoch, chosen, {**row, **validated.metrics}, improved=True)


def scores(
    parts: Parts,
    settings: FitSettings,
    checkpointer: Checkpoints,
    emit: Callable[[Event], None],
    stop: StopRequest,
) -> Validated:
    """What the weights score as they are; a stop is heard between two batches."""
    epoch = epoch_under_way(parts, settings)

    parallel = parts.learner.parallel

    def after_batch(samples: int) -> None:
        emit(ValidationBatchDone(epoch, samples))
        if parallel is not None and parallel.heard:
            raise BreakOff
        stop_here()

    def stop_here() -> None:
        if stop:
            save_now(parts, checkpointer)
            raise interrupted(epoch, stop)

    set_seed(derive_seed(settings.seed, "validation", settings.fold, parts.progress.epoch))
    if parallel is None:
        return validate_epoch(parts, after_batch)
    result = parallel.joined(lambda: _pass_over_val(parts, after_batch))
    stop_here()
    validated: Validated = parallel.world.from_main(lambda: _validated(parts, result))
    return validated


def validate_epoch(
    parts: Parts, on_batch: Callable[[int], None] = lambda _samples: None
) -> Validated:
    """Score the validation pictures with the weights as they are now."""
    return _validated(parts, _pass_over_val(parts, on_batch))


def _pass_over_val(parts: Parts, on_batch: Callable[[int], None]) -> InferencePass | None:
    """The scores of the validation pictures, or of the part that this process has; None if none."""
    if not len(parts.val_batches):
        return None
    # as the epochs are, whatever was scored in this process since
    set_tf32(parts.learner.compute.device, allowed=True)
    try:
        return predict(
            parts.eval_model, parts.val_batches, parts.normalizer, parts.learner.compute, on_batch
        )
    except NonFiniteError as error:
        progress, learner = parts.progress, parts.learner
        raise NonFiniteError(
            f"after step {progress.step} ({rates(learner, progress.lr)}) {error}; the last "
            f"checkpoint is as it was; {calmer(learner)}"
        ) from error


def _validated(parts: Parts, result: InferencePass | None) -> Validated:
    assert result is not None
    predictions, of = result.predictions, parts.val_groups
    metrics = validation_metrics(predictions)
    groups = None if of is None else [of[key] for key in predictions.keys]
    if parts.calibrates:
        # the pictures have also chosen the epoch: only ever soften by them
        found = fit_temperature(
            predictions.logits,
            predictions.labels,
            lowest=1.0,
            groups=groups,
            fine_tuned=parts.grows_too_sure and parts.progress.step > 0,
        )
        predictions = replace(predictions, temperature=found.temperature)
        metrics["val_temperature"] = found.temperature
        metrics["val_calibrated_loss"] = float(predictions.picture_losses.mean())
    units = None if groups is None else unit_numbers(groups)
    return Validated(metrics, predictions.picture_losses, units)


def epoch_under_way(parts: Parts, settings: FitSettings) -> int:
    """The number that the row to come will have: 0 for a fitted classifier without one yet.

    Behind the last epoch that one's.
    """
    if parts.progress.trained:
        return parts.progress.epoch
    if settings.score_first and not parts.history.rows:
        return 0
    return parts.progress.epoch + 1


def save_now(parts: Parts, checkpointer: Checkpoints) -> None:
    checkpointer.save(parts.progress, parts.history, is_best=False)
    checkpointer.wait()


def interrupted(epoch: int, stop: StopRequest) -> InterruptedRunError:
    when = f"in epoch {epoch}" if epoch else "before the first epoch"
    return InterruptedRunError(
        f"stopped {stop.reason or 'by a signal'} {when}; everything is saved",
        stop.signal_number or 2,
    )
