"""From Plan to Parts: the one place where data, models and engine meet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

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
from imgcls.engine.training.trainable import (
    Stage,
    Trainable,
    gradual_unfreezing,
    trains_on_one_picture,
)
from imgcls.errors import ConfigError, DataError
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.plan.recipe import Recipe
from imgcls.jobs.train.features import FeatureStore
from imgcls.metrics.trackers import MetricTracker
from imgcls.models.build import checkpoint_gradients, create_model
from imgcls.models.card import Preprocessing, model_card, preprocessing
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
    store: FeatureStore
    weights: str | None = None


def assemble(
    plan: Plan, fold: int, *, load_weights: bool = True, store: FeatureStore | None = None
) -> Assembly:
    """Build one fold's model, optimizer, loaders and all else.

    load_weights: False skips the pretrained weights, for a fold whose whole model comes from a
    checkpoint. store: where the folds of a run share the features of a frozen backbone.
    """
    store = store or FeatureStore(plan)
    config, augment = plan.config, plan.recipe.augment
    start = {} if load_weights else {"pretrained": False, "weights": None}
    set_seed(derive_seed(config.runtime.seed, "model", fold))
    taken: list[str] = []
    model = create_model(config.model.model_copy(update=start), taken.append)
    if plan.recipe.groups_trained is not None:
        freeze_but_last(model, plan.recipe.groups_trained)
    facts = preprocessing(model, config.data.resize_mode)
    whole = plan.compute.place(model)
    from_features = plan.recipe.from_features
    dropout = config.model.dropout
    assert dropout != "auto"  # nothing in a plan is
    model = classifier_alone(whole, dropout) if from_features else whole
    # the average is a plain copy; compiling comes after, and in place, to keep timm's key names
    average = WeightAverage(model, config.optim.model_ema_decay) if plan.recipe.model_ema else None
    if config.runtime.grad_checkpointing:
        checkpoint_gradients(whole, config.model.name)
    trainable = _trainable(model, plan.recipe)
    _require_trainable_batches(plan, fold, model, trainable, facts)
    if config.runtime.compile:
        require_compiler(plan.compute.device)
        model.compile()
    optimizer = build_optimizer(model, config.optim, plan.pace.lr)
    normalizer = (
        FeatureInput(plan.compute)
        if from_features
        else Normalizer(facts.mean, facts.std, plan.compute)
    )
    device = plan.compute.device
    learner = Learner(
        model=model,
        trainable=trainable,
        loss=build_loss(
            plan.recipe.imbalance,
            plan.train_counts(fold),
            # mixing smooths the targets itself
            0.0 if augment.mixes else augment.smoothing,
        ).to(device),
        optimizer=optimizer,
        schedule=Schedule(
            optimizer,
            sched=config.optim.sched,
            epochs=plan.pace.epochs,
            warmup_epochs=plan.pace.warmup_epochs,
            min_lr=config.optim.min_lr,
            steps_per_epoch=plan.steps_per_epoch(fold),
        ),
        scaler=torch.amp.GradScaler(device.type, enabled=plan.compute.precision is torch.float16),
        average=average,
        batcher=TrainBatcher(normalizer, augment, len(plan.class_names), device),
        compute=plan.compute,
        clip_grad=config.optim.clip_grad,
    )
    bad_images = BadImages(skip=config.data.on_bad_image == "skip")
    train_batches: TrainBatches
    val_batches: EvalBatches
    if isinstance(model, ClassifierAlone):
        # of the average, because a checkpoint's weights are loaded into that
        scored = model if average is None else average.model
        assert isinstance(scored, ClassifierAlone)
        features = partial(store.of, scored, facts, bad_images)
        train_batches, val_batches = _feature_loaders(plan, fold, features)
    else:
        train_batches = train_loader(plan, fold, facts, bad_images)
        val_batches = eval_loader(plan, "val", fold, facts, bad_images)
    parts = Parts(
        learner=learner,
        train_batches=train_batches,
        val_batches=val_batches,
        normalizer=normalizer,
        progress=Progress(),
        tracker=MetricTracker(plan.recipe.monitor),
        history=History(),
        random_state=RandomState(device),
        calibrates=plan.recipe.from_weights,
        val_groups=_groups(plan, "val", fold),
    )
    card = model_card(whole, plan.class_names, facts)
    return Assembly(fold, parts, facts, card, bad_images, store, next(iter(taken), None))


def _groups(plan: Plan, split: str, fold: int) -> dict[str, str] | None:
    table = plan.table
    if table.groups is None or not has_groups(table):
        return None
    return {table.keys[i]: table.groups[i] for i in plan.assignment.indices(split, fold)}


def _require_trainable_batches(
    plan: Plan, fold: int, model: nn.Module, trainable: Trainable, facts: Preprocessing
) -> None:
    """Raise ConfigError where a batch of one picture comes and the batch norm needs more."""
    pictures = len(plan.assignment.indices("train", fold))
    smallest = smallest_batch(pictures, plan.pace.batch_size, plan.config.optim.grad_accum)
    if smallest > 1 or plan.recipe.augment.mixes or isinstance(model, ClassifierAlone):
        return
    # with all that is ever trained; each epoch begins by saying what it trains
    trainable.begin_epoch(model, plan.pace.epochs)
    if not trains_on_one_picture(model, facts.input_size):
        raise ConfigError(
            f"data.batch_size (--batch-size) {plan.pace.batch_size}: leaves single pictures of "
            f"{facts.input_size[1]} pixels, on which {plan.config.model.name}'s batch norm cannot "
            "be trained; give --batch-size 4 or more, a larger --img-size, or a model without "
            "batch norm, such as vit_tiny_patch16_224"
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


def train_loader(plan: Plan, fold: int, facts: Preprocessing, bad_images: BadImages) -> TrainLoader:
    """The pictures that a fold trains on, changed at random."""
    config, augment = plan.config, plan.recipe.augment
    return TrainLoader(
        plan.cache.for_training(plan.table, facts),
        plan.assignment.indices("train", fold),
        train_transform(facts, augment),
        batch_size=plan.pace.batch_size,
        grad_accum=config.optim.grad_accum,
        seed=derive_seed(config.runtime.seed, "samples", fold),
        workers=plan.workers,
        device_type=plan.compute.device.type,
        even_batches=augment.mixes,
        balanced=plan.recipe.imbalance == "balanced-sampler",
        bad_images=bad_images,
    )


def _feature_loaders(
    plan: Plan, fold: int, features: Callable[[], FeatureSet]
) -> tuple[FeatureTrainLoader, FeatureEvalLoader]:
    train = FeatureTrainLoader(
        features,
        plan.table,
        plan.assignment.indices("train", fold),
        batch_size=plan.pace.batch_size,
        grad_accum=plan.config.optim.grad_accum,
        seed=derive_seed(plan.config.runtime.seed, "samples", fold),
        balanced=plan.recipe.imbalance == "balanced-sampler",
    )
    val = FeatureEvalLoader(
        features,
        plan.table,
        plan.assignment.indices("val", fold),
        batch_size=plan.pace.batch_size,
    )
    return train, val


def eval_loader(
    plan: Plan, split: str, fold: int, facts: Preprocessing, bad_images: BadImages
) -> EvalLoader:
    """The pictures of one split of one fold, in evaluation order."""
    indices = plan.assignment.indices(split, fold)
    if not len(indices):
        raise DataError(f"the {split} split of fold {fold} has no pictures")
    transform = eval_transform(facts)
    return EvalLoader(
        plan.cache.for_evaluation(plan.table, facts, transform),
        indices,
        transform,
        batch_size=plan.pace.batch_size,
        workers=plan.workers,
        device_type=plan.compute.device.type,
        bad_images=bad_images,
    )
