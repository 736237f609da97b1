"""What is trained, and by what: a fold's model, loss, optimizer and schedule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from imgcls.config.model import ModelConfig
from imgcls.config.optim import OptimConfig
from imgcls.config.run import TrainConfig
from imgcls.engine.device.batches import ComputeSettings, Normalizer, TrainBatcher
from imgcls.engine.scoring.backends import require_compiler
from imgcls.engine.scoring.features import FeatureInput
from imgcls.engine.training.ema import WeightAverage
from imgcls.engine.training.losses import build_loss
from imgcls.engine.training.optim import build_optimizer
from imgcls.engine.training.schedule import Schedule
from imgcls.engine.training.step import Learner
from imgcls.engine.training.trainable import Stage, Trainable, gradual_unfreezing
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.plan.pace import Pace
from imgcls.jobs.plan.recipe import Recipe
from imgcls.models.build import checkpoint_gradients, create_model
from imgcls.models.card import Preprocessing, preprocessing_of
from imgcls.models.groups import backbone_groups, freeze_but_last
from imgcls.models.head import classifier_alone


@dataclass(frozen=True)
class Built:
    """A learner, and what it was made of.

    whole: the model, of which the learner's may be the classifier alone. normalizer: of what the
    learner is fed with. weights: what was taken from the file of `--weights`.
    """

    learner: Learner
    whole: nn.Module
    preprocessing: Preprocessing
    normalizer: Normalizer
    weights: str | None


def build_learner(
    config: TrainConfig,
    data: DataPlan,
    recipe: Recipe,
    compute: ComputeSettings,
    fold: int,
    *,
    pace: Pace,
    load_weights: bool = True,
) -> Built:
    """A fold's learner, ready for its first update; random weights come from the global states.

    config: a resolved one. load_weights: False skips the pretrained weights. Raises ModelError and
    ConfigError for what cannot be built.
    """
    whole, weights = _build_model(config.model, recipe, load_weights=load_weights)
    preprocessing = preprocessing_of(whole, config.data.resize_mode)
    whole = compute.place(whole)
    model = _alone(whole, config.model) if recipe.from_features else whole
    # the average is a plain copy; compiling comes after, and in place, to keep timm's key names
    average = WeightAverage(model, config.optim.model_ema_decay) if recipe.model_ema else None
    if config.runtime.grad_checkpointing:
        checkpoint_gradients(whole, config.model.name)
    trainable = _trainable(model, recipe)
    if config.runtime.compile:
        require_compiler(compute.device)
        model.compile()
    optimizer = build_optimizer(model, config.optim, pace.lr)
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
        schedule=_schedule(optimizer, config.optim, pace, len(data.rows("train", fold))),
        scaler=torch.amp.GradScaler(
            compute.device.type, enabled=compute.precision is torch.float16
        ),
        average=average,
        batcher=TrainBatcher(normalizer, recipe.augment, len(data.class_names), compute.device),
        compute=compute,
        clip_grad=config.optim.clip_grad,
    )
    return Built(learner, whole, preprocessing, normalizer, weights)


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
