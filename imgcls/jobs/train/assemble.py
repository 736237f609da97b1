"""From Plan to Parts: the one place where data, models and engine meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from imgcls.config.model import ModelConfig
from imgcls.config.optim import OptimConfig
from imgcls.data.loading.bad_images import BadImages
from imgcls.data.loading.features import FeatureEvalLoader, FeatureSet, FeatureTrainLoader
from imgcls.data.loading.loader import EvalLoader, TrainLoader
from imgcls.data.loading.sampling import smallest_batch
from imgcls.data.pixels.transforms import eval_transform, train_transform
from imgcls.data.splits.groups import has_groups
from imgcls.engine.device.batches import Normalizer, TrainBatcher
from imgcls.engine.device.runtime import derive_seed, set_seed
from imgcls.engine.scoring.backends import require_compiler
from imgcls.engine.scoring.features import FeatureInput
from imgcls.engine.training.ema import WeightAverage
from imgcls.engine.training.fit import EvalBatches, Parts, TrainBatches
from imgcls.engine.training.losses import build_loss
from imgcls.engine.training.optim import build_optimizer
from imgcls.engine.training.schedule import Schedule
from imgcls.engine.training.state import History, Progress, RandomState
from imgcls.engine.training.step import Learner
from imgcls.engine.training.trackers import MetricTracker
from imgcls.engine.training.trainable import (
    Stage,
    Trainable,
    gradual_unfreezing,
    trains_on_one_picture,
)
from imgcls.errors import ConfigError, DataError
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.plan.pace import Pace
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.plan.recipe import Recipe
from imgcls.jobs.train.caches import PictureCache, RunCaches
from imgcls.models.build import checkpoint_gradients, create_model
from imgcls.models.card import Preprocessing, model_card, preprocessing_of
from imgcls.models.groups import backbone_groups, freeze_but_last
from imgcls.models.head import ClassifierAlone, classifier_alone


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
    whole, weights = _build_model(config.model, recipe, load_weights=load_weights)
    preprocessing = preprocessing_of(whole, config.data.resize_mode)
    whole = compute.place(whole)
    model = _alone(whole, config.model) if recipe.from_features else whole
    # the average is a plain copy; compiling comes after, and in place, to keep timm's key names
    average = WeightAverage(model, config.optim.model_ema_decay) if recipe.model_ema else None
    if config.runtime.grad_checkpointing:
        checkpoint_gradients(whole, config.model.name)
    trainable = _trainable(model, recipe)
    pictures = len(data.rows("train", fold))
    smallest = smallest_batch(pictures, plan.pace.batch_size, plan.pace.grad_accum)
    if smallest == 1 and not (recipe.augment.mixes or recipe.from_features):
        _require_trains_on_one(model, trainable, preprocessing, plan.pace, config.model.name)
    if config.runtime.compile:
        require_compiler(compute.device)
        model.compile()
    optimizer = build_optimizer(model, config.optim, plan.pace.lr)
    normalizer = (
        FeatureInput(compute)
        if recipe.from_features
        else Normalizer(preprocessing.mean, preprocessing.std, compute)
    )
    learner = Learner(
        model=model,
        trainable=trainable,
        loss=_loss(recipe, data.class_counts("train", fold)).to(compute.device),
        optimizer=optimizer,
        schedule=_schedule(optimizer, config.optim, plan.pace, pictures),
        scaler=torch.amp.GradScaler(
            compute.device.type, enabled=compute.precision is torch.float16
        ),
        average=average,
        batcher=TrainBatcher(normalizer, recipe.augment, len(data.class_names), compute.device),
        compute=compute,
        clip_grad=config.optim.clip_grad,
    )
    bad_images = BadImages(skip=config.data.on_bad_image == "skip")
    train_batches: TrainBatches
    val_batches: EvalBatches
    if isinstance(model, ClassifierAlone):
        # of the average, because a checkpoint's weights are loaded into that
        scored = model if average is None else average.model
        assert isinstance(scored, ClassifierAlone)
        features = partial(caches.features.of, scored, preprocessing, bad_images)
        train_batches, val_batches = _feature_loaders(plan, fold, features)
    else:
        train_batches = _train_loader(plan, fold, preprocessing, bad_images, caches.pictures)
        val_batches = _val_loader(plan, fold, preprocessing, bad_images, caches.pictures)
    parts = Parts(
        learner=learner,
        train_batches=train_batches,
        val_batches=val_batches,
        normalizer=normalizer,
        progress=Progress(),
        tracker=MetricTracker(recipe.monitor),
        history=History(),
        random_state=RandomState(compute.device),
        calibrates=recipe.from_weights,
        val_groups=_val_groups(data, fold),
    )
    card = model_card(
        whole,
        data.class_names,
        preprocessing,
        starting_weights=plan.model.starting_weights,
    )
    return Assembly(fold, parts, preprocessing, card, bad_images, caches, weights)


def _build_model(
    config: ModelConfig, recipe: Recipe, *, load_weights: bool
) -> tuple[nn.Module, str | None]:
    """(the whole model on the CPU, what was taken from the file of `--weights`)."""
    start = {} if load_weights else {"pretrained": False, "weights": None}
    taken: list[str] = []
    model = create_model(config.model_copy(update=start), taken.append)
    if recipe.groups_trained is not None:
        freeze_but_last(model, recipe.groups_trained)
    return model, next(iter(taken), None)


def _alone(whole: nn.Module, config: ModelConfig) -> nn.Module:
    assert config.dropout != "auto"  # nothing in a plan is
    return classifier_alone(whole, config.dropout)


def _schedule(
    optimizer: torch.optim.Optimizer, optim: OptimConfig, pace: Pace, pictures: int
) -> Schedule:
    return Schedule(
        optimizer,
        sched=optim.sched,
        epochs=pace.epochs,
        warmup_epochs=pace.warmup_epochs,
        min_lr=optim.min_lr,
        steps_per_epoch=pace.steps_per_epoch(pictures),
    )


def _loss(recipe: Recipe, class_counts: np.ndarray) -> nn.Module:
    method = recipe.imbalance_method
    return build_loss(
        # mixing smooths the targets itself
        0.0 if recipe.augment.mixes else recipe.augment.smoothing,
        shift=method.prior_shift(class_counts),
        weights=method.class_weights(class_counts),
        gamma=method.focal_gamma,
    )


def _val_groups(data: DataPlan, fold: int) -> dict[str, str] | None:
    table = data.table
    if table.groups is None or not has_groups(table):
        return None
    return {table.keys[i]: table.groups[i] for i in data.rows("val", fold)}


def _require_trains_on_one(
    model: nn.Module, trainable: Trainable, preprocessing: Preprocessing, pace: Pace, name: str
) -> None:
    """Raise ConfigError where a batch of one picture comes and the batch norm needs more."""
    # with all that is ever trained; each epoch begins by saying what it trains
    trainable.begin_epoch(model, pace.epochs)
    if not trains_on_one_picture(model, preprocessing.input_size):
        raise ConfigError(
            f"data.batch_size (--batch-size) {pace.batch_size}: leaves single pictures of "
            f"{preprocessing.input_size[1]} pixels, on which {name}'s batch norm cannot be "
            "trained; give --batch-size 4 or more, a larger --img-size, or a model without batch "
            "norm, such as vit_tiny_patch16_224"
        )


def _trainable(model: nn.Module, recipe: Recipe) -> Trainable:
    """The schedule of what is trained, for a model whose never trained parameters are frozen."""
    stages: tuple[Stage, ...] = ()
    if recipe.tune == "full" or recipe.fits_head:
        first_epoch = recipe.unfreeze_epochs
    else:
        first_epoch = max(recipe.unfreeze_epochs, 1)  # a fresh classifier is trained alone at first
    if first_epoch and not recipe.head_only:
        groups = [
            [parameter for parameter in group if parameter.requires_grad]
            for group in backbone_groups(model)
        ]
        groups = [group for group in groups if group]
        if not recipe.unfreeze_epochs:
            groups = [[parameter for group in groups for parameter in group]]
        stages = gradual_unfreezing(groups, epochs_each=first_epoch)
    return Trainable(stages, recipe.frozen_norms)


def _train_loader(
    plan: Plan, fold: int, preprocessing: Preprocessing, bad_images: BadImages, cache: PictureCache
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
    )


def _val_loader(
    plan: Plan, fold: int, preprocessing: Preprocessing, bad_images: BadImages, cache: PictureCache
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
