"""From Config to Plan: everything that `auto` stands for."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from imgcls.config.model import ModelConfig
from imgcls.config.run import TrainConfig
from imgcls.data.loading.loader import resolve_workers
from imgcls.data.open import absolute_spec
from imgcls.data.splits.assign import SplitAssignment, assignment_from_rows
from imgcls.data.table import SampleTable
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import amp_name, get_device, use_deterministic_kernels
from imgcls.jobs.plan.bit_depth import of_one_depth
from imgcls.jobs.plan.caching import PictureCache, plan_cache
from imgcls.jobs.plan.compute import training_compute
from imgcls.jobs.plan.idle import notes_on_idle
from imgcls.jobs.plan.pace import Pace, memory_for, plan_pace
from imgcls.jobs.plan.preflight import preflight, preflight_report, split_readable, with_digests
from imgcls.jobs.plan.recipe import Recipe, plan_recipe
from imgcls.jobs.plan.tables import naming_the_way, recorded_table, training_table
from imgcls.models.build import create_model, has_one_classifier, native_img_size
from imgcls.models.own_rates import own_rates
from imgcls.results.training import PreflightReport
from imgcls.storage.runs import planned_folds


@dataclass(frozen=True)
class Plan:
    """What was worked out from a config: nothing here is `auto` any more.

    `config` is the resolved config that the run keeps: with it the run can be repeated. `reasons`
    has a line for each number that was found or measured, `notes` one for options that were given
    and change nothing.
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
    recipe: Recipe
    workers: int
    preflight: PreflightReport | None = None
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the model's outputs."""
        return self.table.class_names

    def steps_per_epoch(self, fold: int) -> int:
        """Updates in one epoch of a fold."""
        pictures = len(self.assignment.indices("train", fold))
        per_step = self.pace.batch_size * self.config.optim.grad_accum
        return -(-pictures // per_step)

    @property
    def epochs(self) -> int:
        """Epochs of a fold; 0 when fitting the classifier is all there is to do."""
        return 0 if self.recipe.fits_only else self.pace.epochs

    def train_counts(self, fold: int) -> np.ndarray:
        """Training pictures of each class in a fold: int64 [C]."""
        return self.table.class_counts(self.assignment.indices("train", fold))


def make_plan(
    config: TrainConfig,
    split_rows: Sequence[Mapping[str, str]] | None = None,
    *,
    strict: bool = True,
    since_s: float | None = math.inf,
    class_names: Sequence[str] | None = None,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
) -> Plan:
    """Work everything out, so that nothing is left to find but the weights.

    split_rows: the rows of a run's splits.csv, to keep its split; without them the pictures are
    checked and a new split is made. strict: refuse pictures that came or went since those rows were
    written, or whose content is not the recorded one. since_s: when that was recorded; files that
    are older need no reading; by default none is read. class_names: the order of classes, where the
    data may have another. on_picture is told (pictures checked, pictures in all).
    Raises the RequestErrors of config, data, model name and device.
    """
    get_device(config.runtime.device)
    if config.runtime.deterministic:
        use_deterministic_kernels()
    native = native_img_size(config.model.name)
    begun = split_rows is not None
    with naming_the_way() if begun else contextlib.nullcontext():
        table = training_table(config, begun=begun)
    checked, depth_reason = None, None
    if split_rows is None:
        table, depth_reason = of_one_depth(config, table, on_picture)
        checked = preflight(config, table, on_picture)
        table = with_digests(table, checked)
        assignment = split_readable(config, table, checked)
    else:
        given = table if class_names is None else table.relabel(class_names)
        table = recorded_table(
            given,
            split_rows,
            since_s=since_s,
            strict=strict,
            skip=config.data.on_bad_image == "skip",
            workers=config.runtime.workers,
        )
        assignment = assignment_from_rows(table, split_rows, strict=strict)
        found_out = tuple(note for note in table.notes if note not in given.notes)
        assignment = replace(assignment, notes=(*assignment.notes, *found_out))
    model = config.model
    pretrained = (
        table.defaults.pretrained and model.weights is None
        if model.pretrained == "auto"
        else model.pretrained
    )
    img_size = (table.defaults.img_size or native) if model.img_size == "auto" else model.img_size
    # the data may bring folds of its own
    config = _resolved(config, {"data": {"folds": assignment.num_folds}})
    folds = planned_folds(config)
    from_weights = pretrained or model.weights is not None
    recipe = plan_recipe(
        config,
        table.class_counts(assignment.indices("train", folds[0])),
        table.defaults,
        from_weights=from_weights,
        one_classifier=has_one_classifier(model.name),
    )
    to_build = {"pretrained": False, "weights": None, "img_size": img_size}
    to_build["num_classes"] = len(table.class_names)

    def build() -> nn.Module:
        return create_model(model.model_copy(update=to_build))

    pictures = len(assignment.indices("train", folds[0]))
    choice = training_compute(
        config,
        build,
        pictures=pictures,
        folds=len(folds),
        # about: each view of what is trained on, and the evaluation view of what is validated
        forward_passes=(
            int((assignment.split != "test").sum()) * recipe.feature_views
            if recipe.from_features
            else None
        ),
    )
    compute = choice.compute
    pace_of = partial(
        plan_pace,
        pictures=pictures,
        fine_tuning=from_weights and not recipe.head_only,
        memory=lambda: memory_for(build(), compute),
    )
    pace = pace_of(config)
    cache = plan_cache(
        config,
        table,
        [assignment.indices("train", fold) for fold in folds],
        [assignment.indices("val", fold) for fold in folds],
        img_size,
    )
    rates, rate_reasons = _rates(model)
    notes: tuple[str, ...] = ()
    if not begun:
        left_open: dict[str, dict[str, Any]] = {
            "optim": {"lr": "auto", "warmup_epochs": "auto"},
            "data": {"batch_size": pace.batch_size},
        }
        notes = (*notes_on_idle(recipe, config, pace_of(_resolved(config, left_open))),)
    resolved = _resolved(
        _resolved(config, recipe.resolved()),
        {
            "data": {
                "source": absolute_spec(config.data.source),
                "batch_size": pace.batch_size,
                "cache": cache.mode,
            },
            "reading": {
                "root": _absolute(config.reading.root),
                "bit_depth": table.images.decoding.bit_depth or "auto",
            },
            "model": {
                "pretrained": pretrained,
                "img_size": img_size,
                **rates,
                "num_classes": len(table.class_names),
                "weights": _absolute(model.weights),
                "freeze_backbone": recipe.head_only,
            },
            "optim": {
                "lr": pace.lr,
                "epochs": pace.epochs,
                "warmup_epochs": pace.warmup_epochs,
            },
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
        reasons=(
            *(() if recipe.fits_only else pace.reasons),
            *choice.reasons,
            *rate_reasons,
            *filter(None, [cache.reason, depth_reason]),
        ),
        cache=cache,
        folds=folds,
        img_size=img_size,
        pretrained=pretrained,
        pace=pace,
        recipe=recipe,
        preflight=None if checked is None else preflight_report(checked, table, assignment),
        notes=notes,
        workers=resolve_workers(
            config.runtime.workers,
            in_memory=table.defaults.in_memory,
            device_type=compute.device.type,
        ),
    )


def _rates(model: ModelConfig) -> tuple[dict[str, float], tuple[str, ...]]:
    """Dropout and stochastic depth in force, and a line for each that is the architecture's own."""
    given = {"dropout": model.dropout, "drop_path_rate": model.drop_path_rate}
    own = own_rates(model.name) if "auto" in given.values() else (0.0, 0.0)
    words = ("dropout", "stochastic depth")
    rates: dict[str, float] = {}
    reasons = []
    for (name, rate), default, word in zip(given.items(), own, words, strict=True):
        rates[name] = default if rate == "auto" else rate
        if rate == "auto" and default:
            reasons.append(f"{word} {default:g}: {model.name}'s own")
    return rates, tuple(reasons)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser().absolute()


def _resolved(config: TrainConfig, changes: Mapping[str, Mapping[str, Any]]) -> TrainConfig:
    groups = {
        name: getattr(config, name).model_copy(update=dict(update))
        for name, update in changes.items()
    }
    return config.model_copy(update=groups)
