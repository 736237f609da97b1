"""How long a training will take, and how many epochs fit into `--max-minutes`.

The number of epochs is fixed before the first and kept in the run's config, without the minutes. So
the schedule is shaped for it from the first update on, and the run repeats and resumes exactly.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from imgcls.data.loading.workers import available_cores
from imgcls.engine.device.timing import seconds
from imgcls.engine.scoring.inference import predict
from imgcls.engine.training.parts import Parts
from imgcls.engine.training.selection.interpolation import SHARES
from imgcls.engine.training.step import train_step
from imgcls.errors import ConfigError
from imgcls.jobs.plan.cost.fitting import fits_whole
from imgcls.jobs.plan.cost.timing import PictureTimes
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.plan.recipe import Recipe
from imgcls.jobs.train.assemble import assemble
from imgcls.jobs.train.caches import RunCaches
from imgcls.jobs.train.head.in_blocks import EXPECTED_PASSES

# the first steps load kernels and fill the loaders' queues
_WARMUP_STEPS = 3
_MOST_STEPS, _LONGEST_S = 40, 5.0
_VAL_BATCHES = 8
# what is not left for building the model, checkpoints, and a machine that slows down when warm
_SHARE = 0.9
_MOST_EPOCHS = 10**6
# of the classifier's fit with its inner cross-validation, on as many pictures as these or fewer
_PRODUCTS, _MULTIPLIED = 2500, 2000
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class EpochTime:
    """What an epoch with its validation takes, from so many timed updates.

    head_s: what comes before the first: the features that the classifier is fitted on.
    """

    epoch_s: float
    steps: int
    head_s: float


def fit_to_time(plan: Plan, caches: RunCaches | None = None) -> Plan:
    """The plan with no more epochs than fit into `optim.max_minutes`; as it is without that.

    The minutes are for all folds together, from this call on. caches: see `assemble`. Raises
    ConfigError when not even one epoch fits.
    """
    minutes = plan.config.optim.max_minutes
    if minutes is None:
        return plan
    if plan.recipe.from_features:
        raise ConfigError(
            "optim.max_minutes (--max-minutes): epochs of the classifier alone take seconds; leave "
            "it out with --tune head"
        )
    start_s = time.monotonic()
    measured = measure_epoch(plan, caches)
    folds = len(plan.data.folds)
    left_s = 60 * minutes - (time.monotonic() - start_s) - measured.head_s
    epoch_s = measured.epoch_s
    # so many minutes may be given that their seconds are inf
    fitting = int(min(_SHARE * left_s / (folds * epoch_s), _MOST_EPOCHS))
    if fitting < 1:
        each = f" in each of {folds} folds" if folds > 1 else ""
        raise ConfigError(
            f"optim.max_minutes (--max-minutes): {minutes:g} is too little; one epoch{each} takes "
            f"about {folds * epoch_s / 60:.2g} minutes, and measuring that took "
            f"{(time.monotonic() - start_s) / 60:.2g}; a smaller --img-size or --model is faster"
        )
    epochs = min(plan.pace.epochs, fitting)
    unit = "minute" if minutes == 1 else "minutes"
    fit = f"what fits into {minutes:g} {unit}" if epochs == fitting else f"{fitting} would fit"
    reason = f"{epochs} epochs: {fit}; {epoch_s:.1f} s each, by {measured.steps} timed steps"
    # a warm-up takes no more than a fifth of what was shortened
    warmup_epochs = plan.pace.warmup_epochs
    if epochs < plan.pace.epochs:
        warmup_epochs = min(warmup_epochs, epochs / 5)
    pace = replace(plan.pace, epochs=epochs, warmup_epochs=warmup_epochs)
    optim = plan.config.optim.model_copy(
        update={"epochs": epochs, "warmup_epochs": warmup_epochs, "max_minutes": None}
    )
    config = plan.config.model_copy(update={"optim": optim})
    return replace(plan, pace=pace, reasons=(*plan.reasons, reason), config=config)


def measure_epoch(plan: Plan, caches: RunCaches | None = None) -> EpochTime:
    """How long an epoch of the first fold takes, by some of its updates and validation batches."""
    data, fold = plan.data, plan.data.folds[0]
    parts = assemble(plan, fold, load_weights=False, caches=caches).parts
    step_s, steps = _time_steps(parts)
    val_s = _time_validation(parts)
    head_s = _feature_passes(data, plan.recipe) * val_s / len(data.rows("val", fold))
    return EpochTime(parts.train_batches.steps_per_epoch * step_s + val_s, steps, head_s)


def expected_s(plan: Plan) -> float | None:
    """About how many seconds all folds take, with all their epochs: None where nothing was timed.

    By the few pictures that `TrainingMemory` trains on before the first epoch.
    """
    times = plan.memory.times
    if times is None:
        return None
    data, recipe = plan.data, plan.recipe
    train, val = (
        sum(len(data.rows(split, fold)) for fold in data.folds) for split in ("train", "val")
    )
    scored_s = _with_loading(plan, times.scored_s, times.viewed_s)
    total_s = _feature_passes(data, recipe) * scored_s + _fits_s(plan, times)
    if recipe.from_features:
        return total_s  # epochs of the classifier alone take next to nothing
    trained_s = _with_loading(plan, times.trained_s, times.loaded_s)
    validations = plan.epochs + (len(SHARES) if recipe.interpolates else 0)
    return total_s + plan.epochs * train * trained_s + validations * val * scored_s


def _with_loading(plan: Plan, device_s: float, core_s: float) -> float:
    """Seconds of a picture that a core loads in core_s."""
    workers = plan.loading.workers
    if not workers:
        return device_s + core_s
    # beside a model on the CPU, loading takes its share of all cores
    shared_s = core_s / available_cores() if plan.compute.device.type == "cpu" else 0.0
    return max(device_s + shared_s, core_s / workers)


def _fits_s(plan: Plan, times: PictureTimes) -> float:
    """Seconds to fit the classifier of each fold, by the time of a product as it makes many."""
    views, num_classes = plan.recipe.feature_views, len(plan.data.class_names)
    pictures = len(plan.data.rows("train", plan.data.folds[0]))
    if not plan.recipe.fits_head:
        return 0.0
    rows = views * pictures
    some = min(rows, _MULTIPLIED)
    if fits_whole(views, pictures, times.features, num_classes):
        features = np.ones((some, min(times.features, rows)), dtype=np.float32)
        weights = np.ones((features.shape[1], num_classes), dtype=np.float32)
        with threadpool_limits(1):
            product_s = min(seconds(lambda: features @ weights, _CPU) for _ in range(3))
        products = _PRODUCTS
    else:
        device = plan.compute.device
        block = torch.ones(some, times.features, device=device)
        classifier = torch.ones(times.features, num_classes, device=device)
        product_s = min(seconds(lambda: block @ classifier, device) for _ in range(3))
        products = 2 * EXPECTED_PASSES  # there and back
    return len(plan.data.folds) * products * product_s * rows / some


def _feature_passes(data: DataPlan, recipe: Recipe) -> int:
    """Passes of a picture through the backbone before the first epoch, in all folds together."""
    if not (recipe.fits_head or recipe.from_features):
        return 0
    split = data.assignment.split
    return recipe.feature_views * int((split == "train").sum()) + int((split == "val").sum())


def _time_steps(parts: Parts) -> tuple[float, int]:
    """(seconds an update with its loading, updates timed)."""
    learner = parts.learner
    learner.begin_epoch(0)
    warmup_steps = min(_WARMUP_STEPS, parts.train_batches.steps_per_epoch - 1)
    timed = 0
    start_s = now_s = time.monotonic()
    for step, micro_batches in enumerate(parts.train_batches.steps(0)):
        train_step(learner, micro_batches, step)
        now_s = time.monotonic()
        if step < warmup_steps:
            start_s = now_s
            continue
        timed += 1
        if timed >= _MOST_STEPS or now_s - start_s >= _LONGEST_S:
            break
    return (now_s - start_s) / timed, timed


def _time_validation(parts: Parts) -> float:
    """Seconds to score all validation pictures, from the first batches."""
    total = len(parts.val_batches)
    some = min(total, _VAL_BATCHES)
    start_s = time.monotonic()
    batches = islice(parts.val_batches, some)
    predict(parts.eval_model, batches, parts.normalizer, parts.learner.compute)
    return (time.monotonic() - start_s) * total / some
