"""From Config to Plan to Parts: the one place where data, models and engine meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from imgcls.config.run import TrainConfig
from imgcls.data.bad_images import BadImages
from imgcls.data.loader import EvalLoader, TrainLoader, resolve_workers
from imgcls.data.open import absolute_spec
from imgcls.data.source import SampleTable
from imgcls.data.split import SplitAssignment, assignment_from_rows
from imgcls.data.transforms import eval_transform, train_transform
from imgcls.engine.batches import ComputeSettings, Normalizer, TrainBatcher, uses_mixing
from imgcls.engine.ema import WeightAverage
from imgcls.engine.fit import Parts
from imgcls.engine.losses import build_loss
from imgcls.engine.optim import build_optimizer
from imgcls.engine.runtime import (
    amp_name,
    derive_seed,
    get_device,
    set_seed,
    use_deterministic_kernels,
)
from imgcls.engine.schedule import Schedule
from imgcls.engine.state import History, Progress, RandomState
from imgcls.engine.step import Learner
from imgcls.errors import DataError
from imgcls.jobs.caching import PictureCache, plan_cache
from imgcls.jobs.compute import training_compute
from imgcls.jobs.pace import Pace, memory_for, plan_pace
from imgcls.jobs.preflight import preflight, preflight_report, split_readable
from imgcls.jobs.recipe import Recipe, plan_recipe
from imgcls.jobs.runs import planned_folds
from imgcls.jobs.tables import training_table
from imgcls.metrics.trackers import MetricTracker
from imgcls.models.build import checkpoint_gradients, create_model, native_img_size
from imgcls.models.card import Preprocessing, model_card, preprocessing
from imgcls.results import PreflightReport


@dataclass(frozen=True)
class Plan:
    """What was worked out from a config: nothing here is `auto` any more.

    `config` is the resolved config that the run keeps: with it the run can be repeated. `reasons`
    has a line for each number that was found or measured.
    """

    config: TrainConfig
    table: SampleTable
    assignment: SplitAssignment
    compute: ComputeSettings
    reasons: tuple[str, ...]
    cache: PictureCache
    folds: tuple[int, ...]
    img_size: int
    pretrained: bool
    pace: Pace
    crop_scale: float
    hflip: float
    recipe: Recipe
    workers: int
    preflight: PreflightReport | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the model's outputs."""
        return self.table.class_names

    def steps_per_epoch(self, fold: int) -> int:
        """Updates in one epoch of a fold."""
        pictures = len(self.assignment.indices("train", fold))
        per_step = self.pace.batch_size * self.config.optim.grad_accum
        return -(-pictures // per_step)

    def train_counts(self, fold: int) -> np.ndarray:
        """Training pictures of each class in a fold: int64 [C]."""
        return self.table.class_counts(self.assignment.indices("train", fold))


def make_plan(
    config: TrainConfig,
    split_rows: Iterable[Mapping[str, str]] | None = None,
    *,
    strict: bool = True,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
) -> Plan:
    """Work everything out that does not need the model itself.

    split_rows: the rows of a run's splits.csv, to keep its split; without them the pictures are
    checked and a new split is made. strict: refuse pictures that came or went since those rows were
    written. on_picture is told (pictures checked, pictures in all).
    Raises the RequestErrors of config, data, model name and device.
    """
    get_device(config.runtime.device)
    if config.runtime.deterministic:
        use_deterministic_kernels()
    native = native_img_size(config.model.name)
    table = training_table(config)
    checked = None if split_rows is not None else preflight(config, table, on_picture)
    assignment = (
        split_readable(config, table, checked)
        if split_rows is None
        else assignment_from_rows(table, split_rows, strict=strict)
    )
    model, augment = config.model, config.augment
    pretrained = (
        table.defaults.pretrained and model.weights is None
        if model.pretrained == "auto"
        else model.pretrained
    )
    img_size = (table.defaults.img_size or native) if model.img_size == "auto" else model.img_size
    fine_tuning = (pretrained or model.weights is not None) and not model.freeze_backbone
    crop_scale = table.defaults.crop_scale if augment.scale == "auto" else augment.scale
    hflip = table.defaults.hflip if augment.hflip == "auto" else augment.hflip
    # the data may bring folds of its own
    config = _resolved(config, {"data": {"folds": assignment.num_folds}})
    folds = planned_folds(config)
    recipe = plan_recipe(config, table.class_counts(assignment.indices("train", folds[0])))
    to_build = {"pretrained": False, "weights": None, "img_size": img_size}
    to_build["num_classes"] = len(table.class_names)

    def build() -> nn.Module:
        return create_model(model.model_copy(update=to_build))

    pictures = len(assignment.indices("train", folds[0]))
    choice = training_compute(config, build, pictures=pictures)
    compute = choice.compute
    pace = plan_pace(
        config,
        pictures=pictures,
        fine_tuning=fine_tuning,
        memory=lambda: memory_for(build(), compute),
    )
    cache = plan_cache(
        config,
        table,
        [assignment.indices("train", fold) for fold in folds],
        [assignment.indices("val", fold) for fold in folds],
        img_size,
    )
    resolved = _resolved(
        config,
        {
            "data": {
                "source": absolute_spec(config.data.source),
                "batch_size": pace.batch_size,
                "cache": cache.mode,
            },
            "reading": {"root": _absolute(config.reading.root)},
            "model": {
                "pretrained": pretrained,
                "img_size": img_size,
                "num_classes": len(table.class_names),
                "weights": _absolute(model.weights),
            },
            "optim": {
                "lr": pace.lr,
                "epochs": pace.epochs,
                "warmup_epochs": pace.warmup_epochs,
            },
            "augment": {"scale": crop_scale, "hflip": hflip},
            "recipe": {"imbalance": recipe.imbalance},
            "early_stopping": {"metric": recipe.monitor},
            "runtime": {
                "amp": amp_name(compute.precision),
                "channels_last": compute.channels_last,
            },
        },
    )
    return Plan(
        config=resolved,
        table=table,
        assignment=assignment,
        compute=compute,
        reasons=(*pace.reasons, *choice.reasons, *filter(None, [cache.reason])),
        cache=cache,
        folds=folds,
        img_size=img_size,
        pretrained=pretrained,
        pace=pace,
        crop_scale=crop_scale,
        hflip=hflip,
        recipe=recipe,
        preflight=None if checked is None else preflight_report(checked, table, assignment),
        workers=resolve_workers(
            config.runtime.workers,
            in_memory=table.defaults.in_memory,
            device_type=compute.device.type,
        ),
    )


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser().absolute()


def _resolved(config: TrainConfig, changes: Mapping[str, Mapping[str, Any]]) -> TrainConfig:
    groups = {
        name: getattr(config, name).model_copy(update=dict(update))
        for name, update in changes.items()
    }
    return config.model_copy(update=groups)


@dataclass(frozen=True)
class Assembly:
    """One fold, ready to train."""

    fold: int
    parts: Parts
    preprocessing: Preprocessing
    card: dict[str, Any]
    bad_images: BadImages


def assemble(plan: Plan, fold: int, *, load_weights: bool = True) -> Assembly:
    """Build one fold's model, optimizer, loaders and all else.

    load_weights: False skips the pretrained weights, for a fold that goes on from a checkpoint.
    """
    config = plan.config
    start = {} if load_weights else {"pretrained": False, "weights": None}
    set_seed(derive_seed(config.runtime.seed, "model", fold))
    model = create_model(config.model.model_copy(update=start))
    facts = preprocessing(model, config.data.resize_mode)
    model = plan.compute.place(model)
    # the average is a plain copy; compiling comes after, and in place, to keep timm's key names
    average = WeightAverage(model, config.optim.model_ema_decay) if config.optim.model_ema else None
    if config.runtime.grad_checkpointing:
        checkpoint_gradients(model, config.model.name)
    if config.runtime.compile:
        model.compile()
    optimizer = build_optimizer(model, config.optim, plan.pace.lr)
    normalizer = Normalizer(facts.mean, facts.std, plan.compute)
    device = plan.compute.device
    learner = Learner(
        model=model,
        loss=build_loss(
            plan.recipe.imbalance,
            plan.train_counts(fold),
            # mixing smooths the targets itself
            0.0 if uses_mixing(config.augment) else config.augment.smoothing,
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
        batcher=TrainBatcher(normalizer, config.augment, len(plan.class_names), device),
        compute=plan.compute,
        clip_grad=config.optim.clip_grad,
    )
    bad_images = BadImages(skip=config.data.on_bad_image == "skip")
    parts = Parts(
        learner=learner,
        train_batches=TrainLoader(
            plan.cache.for_training(plan.table, facts),
            plan.assignment.indices("train", fold),
            train_transform(
                facts,
                scale=plan.crop_scale,
                hflip=plan.hflip,
                vflip=config.augment.vflip,
                color_jitter=config.augment.color_jitter,
                auto_augment=config.augment.auto_augment,
            ),
            batch_size=plan.pace.batch_size,
            grad_accum=config.optim.grad_accum,
            seed=derive_seed(config.runtime.seed, "samples", fold),
            workers=plan.workers,
            device_type=device.type,
            even_batches=uses_mixing(config.augment),
            balanced=plan.recipe.imbalance == "balanced-sampler",
            bad_images=bad_images,
        ),
        val_batches=eval_loader(plan, "val", fold, facts, bad_images),
        normalizer=normalizer,
        progress=Progress(),
        tracker=MetricTracker(plan.recipe.monitor),
        history=History(),
        random_state=RandomState(device),
    )
    card = model_card(model, config.model, plan.class_names, facts)
    return Assembly(fold, parts, facts, card, bad_images)


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
