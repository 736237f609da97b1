"""From Plan to Parts: the one place where data, models and engine meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from imgcls.data.loading.bad_images import BadImages
from imgcls.data.loading.features import FeatureEvalLoader, FeatureSet, FeatureTrainLoader
from imgcls.data.loading.loader import WHOLE, EvalLoader, TrainLoader
from imgcls.data.loading.sampling import Share, smallest_batch
from imgcls.data.pixels.transforms import eval_transform, train_transform
from imgcls.data.splits.groups import has_groups
from imgcls.engine.device.runtime import derive_seed, set_seed
from imgcls.engine.training.parts import EvalBatches, Parts, TrainBatches
from imgcls.engine.training.selection.interpolation import Interpolation
from imgcls.engine.training.selection.trackers import MetricTracker
from imgcls.engine.training.state import History, Progress, RandomState
from imgcls.engine.training.step import Learner
from imgcls.engine.training.trainable import (
    trains_on_one_picture,
)
from imgcls.errors import ConfigError, DataError
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.plan.learner import build_learner
from imgcls.jobs.plan.pace import Pace
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.train.caches import PictureCache, RunCaches
from imgcls.models.card import Preprocessing, model_card
from imgcls.models.head import ClassifierAlone


@dataclass(frozen=True)
class Assembly:
    """One fold, ready to train. weights: what was taken from the file of `--weights`."""

    fold: int
    parts: Parts
    preprocessing: Preprocessing
    card: dict[str, Any]
    bad_images: BadImages
    caches: RunCaches
    weights: str | None = None


def assemble(
    plan: Plan, fold: int, *, load_weights: bool = True, caches: RunCaches | None = None
) -> Assembly:
    """One fold's model, optimizer, loaders and all else, ready to train.

    load_weights: False skips the pretrained weights, for a fold whose whole model comes from a
    checkpoint. caches: what the folds of a run share.
    """
    caches = caches or RunCaches.of(plan)
    config, data, recipe, compute = plan.config, plan.data, plan.recipe, plan.compute
    set_seed(derive_seed(config.runtime.seed, "model", fold))
    built = build_learner(
        config, data, recipe, compute, fold, pace=plan.pace, load_weights=load_weights
    )
    learner, preprocessing = built.learner, built.preprocessing
    pictures = len(data.rows("train", fold))
    smallest = smallest_batch(pictures, plan.pace.batch_size, plan.pace.grad_accum)
    if smallest == 1 and not (recipe.augment.mixes or recipe.from_features):
        _require_trains_on_one(learner, preprocessing, plan.pace, config.model.name)
    bad_images = BadImages(skip=config.data.on_bad_image == "skip")
    train_batches: TrainBatches
    val_batches: EvalBatches
    # a checkpoint's weights are loaded into the average, where there is one
    scored = learner.model if learner.average is None else learner.average.model
    if isinstance(scored, ClassifierAlone):
        features = partial(caches.features.of, scored, preprocessing, bad_images)
        train_batches, val_batches = _feature_loaders(plan, fold, features)
    else:
        train_batches = _train_loader(plan, fold, preprocessing, bad_images, caches.pictures)
        val_batches = _val_loader(plan, fold, preprocessing, bad_images, caches.pictures)
    parts = Parts(
        learner=learner,
        train_batches=train_batches,
        val_batches=val_batches,
        normalizer=built.normalizer,
        progress=Progress(),
        tracker=MetricTracker(recipe.monitor),
        history=History(),
        random_state=RandomState(compute.device),
        calibrates=recipe.from_weights,
        grows_too_sure=recipe.grows_too_sure,
        val_groups=_val_groups(data, fold),
        interpolation=Interpolation(scored) if recipe.interpolates else None,
    )
    card = model_card(
        built.whole,
        data.class_names,
        preprocessing,
        starting_weights=plan.model.starting_weights,
    )
    return Assembly(fold, parts, preprocessing, card, bad_images, caches, built.weights)


def shared_loaders(plan: Plan, assembly: Assembly, share: Share) -> tuple[TrainLoader, EvalLoader]:
    """(what this process trains on, what it validates on) of a fold that several train."""
    of = (plan, assembly.fold, assembly.preprocessing, assembly.bad_images)
    pictures = assembly.caches.pictures
    return _train_loader(*of, pictures, share=share), _val_loader(*of, pictures, share=share)


def _val_groups(data: DataPlan, fold: int) -> dict[str, str] | None:
    table = data.table
    if table.groups is None or not has_groups(table):
        return None
    return {table.keys[i]: table.groups[i] for i in data.rows("val", fold)}


def _require_trains_on_one(
    learner: Learner, preprocessing: Preprocessing, pace: Pace, name: str
) -> None:
    """Raise ConfigError where a batch of one picture comes and the batch norm needs more."""
    # with all that is ever trained; each epoch begins by saying what it trains
    learner.trainable.begin_epoch(learner.model, pace.epochs)
    if not trains_on_one_picture(learner.model, preprocessing.input_size):
        raise ConfigError(
            f"data.batch_size (--batch-size) {pace.batch_size}: leaves single pictures of "
            f"{preprocessing.input_size[1]} pixels, on which {name}'s batch norm cannot be "
            "trained; give --batch-size 4 or more, a larger --img-size, or a model without batch "
            "norm, such as vit_tiny_patch16_224"
        )


def _train_loader(
    plan: Plan,
    fold: int,
    preprocessing: Preprocessing,
    bad_images: BadImages,
    cache: PictureCache,
    *,
    share: Share = WHOLE,
) -> TrainLoader:
    """The pictures that a fold trains on, changed at random."""
    augment = plan.recipe.augment
    return TrainLoader(
        cache.for_training(plan.data.table, preprocessing),
        plan.data.rows("train", fold),
        train_transform(preprocessing, augment),
        batch_size=plan.pace.batch_size,
        grad_accum=plan.pace.grad_accum,
        seed=derive_seed(plan.config.runtime.seed, "samples", fold),
        workers=plan.loading.workers,
        device_type=plan.compute.device.type,
        even_batches=augment.mixes,
        balanced=plan.recipe.imbalance_method.balances_sampler,
        bad_images=bad_images,
        share=share,
    )


def _val_loader(
    plan: Plan,
    fold: int,
    preprocessing: Preprocessing,
    bad_images: BadImages,
    cache: PictureCache,
    *,
    share: Share = WHOLE,
) -> EvalLoader:
    """The pictures that a fold is validated on, in evaluation order."""
    rows = plan.data.rows("val", fold)
    if not len(rows):
        raise DataError(f"the val split of fold {fold} has no pictures")
    transform = eval_transform(preprocessing)
    return EvalLoader(
        cache.for_evaluation(plan.data.table, preprocessing, transform),
        rows,
        transform,
        batch_size=plan.pace.batch_size,
        workers=plan.loading.workers,
        device_type=plan.compute.device.type,
        bad_images=bad_images,
        share=share,
    )


def _feature_loaders(
    plan: Plan, fold: int, features: Callable[[], FeatureSet]
) -> tuple[FeatureTrainLoader, FeatureEvalLoader]:
    """(what a fold trains on, what it is validated on), as features."""
    data, batch_size = plan.data, plan.pace.batch_size
    train = FeatureTrainLoader(
        features,
        data.table,
        data.rows("train", fold),
        batch_size=batch_size,
        grad_accum=plan.pace.grad_accum,
        seed=derive_seed(plan.config.runtime.seed, "samples", fold),
        balanced=plan.recipe.imbalance_method.balances_sampler,
    )
    val = FeatureEvalLoader(features, data.table, data.rows("val", fold), batch_size=batch_size)
    return train, val
