"""From Config to Plan: everything that `auto` stands for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from imgcls.config.model import AUTO
from imgcls.config.run import TrainConfig
from imgcls.data.open import absolute_spec
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import get_device, use_deterministic_kernels
from imgcls.errors import ConfigError
from imgcls.jobs.early import check_trackers
from imgcls.jobs.plan.compute import Choice, training_compute
from imgcls.jobs.plan.cost.memory import TrainingMemory
from imgcls.jobs.plan.data import DataPlan, new_data, recorded_data
from imgcls.jobs.plan.idle import notes_on_idle
from imgcls.jobs.plan.loading import Loading, plan_loading
from imgcls.jobs.plan.model import ModelPlan, plan_model
from imgcls.jobs.plan.pace import Memory, Pace, plan_pace
from imgcls.jobs.plan.recipe import Recipe, plan_recipe
from imgcls.models.architecture import goes_by_batch_norms
from imgcls.models.build import native_img_size
from imgcls.results.checkpoint import StartingWeights


class _Part(Protocol):
    def resolved(self) -> dict[str, dict[str, Any]]:
        """The config's own fields that this part decides, by group."""


@dataclass(frozen=True)
class Plan:
    """What was worked out from a config, in parts: nothing here is `auto` any more.

    `config` is the resolved config that the run keeps: with it the run can be repeated. `reasons`
    has a line for each number that was found or measured, `notes` one for options that were given
    and change nothing.
    """

    config: TrainConfig
    data: DataPlan
    model: ModelPlan
    recipe: Recipe
    compute: ComputeSettings
    pace: Pace
    loading: Loading
    memory: TrainingMemory
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def epochs(self) -> int:
        """Epochs of a fold; 0 when fitting the classifier is all there is to do."""
        return 0 if self.recipe.fits_only else self.pace.epochs


def _refuse_to_choose(_config: TrainConfig, _data: DataPlan) -> TrainConfig:
    raise ConfigError(
        f"model.name (--model): {AUTO} is for `imgcls train`, which compares models on its "
        "pictures; name a model here"
    )


def make_plan(
    config: TrainConfig,
    split_rows: Sequence[Mapping[str, str]] | None = None,
    *,
    choose: Callable[[TrainConfig, DataPlan], TrainConfig] = _refuse_to_choose,
    strict: bool = True,
    since_s: float | None = math.inf,
    class_names: Sequence[str] | None = None,
    starting_weights: StartingWeights | None = None,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
) -> Plan:
    """The plan for a config: nothing is left to find but the weights.

    split_rows: the rows of a run's splits.csv, to keep its split; without them the pictures are
    checked and a new split is made. strict: refuse pictures that came or went since those rows were
    written, or whose content is not the recorded one. since_s: when that was recorded; files that
    are older need no reading; by default none is read. class_names: the order of classes, where the
    data may have another. starting_weights: those that a run was begun with. on_picture is told
    (pictures checked, pictures in all). choose: names the model where it is `auto`.
    Raises the RequestErrors of config, data, model name and device.
    """
    _require_device_and_model(config)
    data = (
        new_data(config, on_picture)
        if split_rows is None
        else recorded_data(
            config, split_rows, strict=strict, since_s=since_s, class_names=class_names
        )
    )
    config = _with(_with_whole_paths(config), data.resolved())
    if config.model.name == AUTO:
        config = choose(config, data)
    model = plan_model(config.model, data.table, starting_weights)
    recipe = plan_recipe(
        config,
        data.class_counts("train", data.folds[0]),
        data.table.defaults,
        from_weights=model.from_weights,
        one_classifier=model.one_classifier,
    )
    choice = _plan_compute(config, data, model, recipe)
    decided = _resolved(config, model, recipe, choice)
    loading = plan_loading(config, data, model.img_size, choice.compute.device)
    memory = TrainingMemory(
        decided, data, recipe, choice.compute, cache_mib=loading.cache.memory_bytes / 2**20
    )
    pace_of = _pace_of(data, model, recipe, memory)
    pace = pace_of(config)
    # a run that goes on has said these things before
    notes = _idle(config, recipe, pace, pace_of) if split_rows is None else ()
    config = _resolved(decided, pace, loading)
    reasons = (
        *(() if recipe.fits_only else pace.reasons),
        *choice.reasons,
        *model.reasons,
        *filter(None, [loading.cache.reason, data.reason]),
    )
    return Plan(config, data, model, recipe, choice.compute, pace, loading, memory, reasons, notes)


def _require_device_and_model(config: TrainConfig) -> None:
    """Raise ConfigError, DeviceError and ModelError before any picture is read."""
    check_trackers(config.runtime.log)
    get_device(config.runtime.device)
    if config.runtime.deterministic:
        use_deterministic_kernels()
    if config.model.name != AUTO:
        native_img_size(config.model.name)


def _plan_compute(config: TrainConfig, data: DataPlan, model: ModelPlan, recipe: Recipe) -> Choice:
    # about: each view of what is trained on, and the evaluation view of what is validated
    passes = int((data.assignment.split != "test").sum()) * recipe.feature_views
    return training_compute(
        config,
        model.build,
        pictures=len(data.rows("train", data.folds[0])),
        folds=len(data.folds),
        forward_passes=passes if recipe.from_features else None,
    )


def _pace_of(
    data: DataPlan, model: ModelPlan, recipe: Recipe, memory: Memory
) -> Callable[[TrainConfig], Pace]:
    fine_tuning = model.from_weights and not recipe.head_only
    return partial(
        plan_pace,
        pictures=len(data.rows("train", data.folds[0])),
        fine_tuning=fine_tuning,
        batch_norms=fine_tuning and goes_by_batch_norms(model.config.name),
        memory=memory,
    )


def _idle(
    config: TrainConfig, recipe: Recipe, pace: Pace, pace_of: Callable[[TrainConfig], Pace]
) -> tuple[str, ...]:
    left_open: dict[str, dict[str, Any]] = {
        "optim": {"lr": "auto", "warmup_epochs": "auto"},
        "data": {"batch_size": pace.batch_size},
    }
    return (*notes_on_idle(recipe, config, pace_of(_with(config, left_open))),)


def _with_whole_paths(config: TrainConfig) -> TrainConfig:
    """The config that means the same files wherever it is read."""
    return _with(
        config,
        {
            "data": {"source": absolute_spec(config.data.source)},
            "reading": {"root": _absolute(config.reading.root)},
            "model": {"weights": _absolute(config.model.weights)},
        },
    )


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.expanduser().absolute()


def _resolved(config: TrainConfig, *parts: _Part) -> TrainConfig:
    """The config with what these parts decide."""
    for part in parts:
        config = _with(config, part.resolved())
    return config


def _with(config: TrainConfig, changes: Mapping[str, Mapping[str, Any]]) -> TrainConfig:
    groups = {
        name: getattr(config, name).model_copy(update=dict(update))
        for name, update in changes.items()
    }
    return config.model_copy(update=groups)
