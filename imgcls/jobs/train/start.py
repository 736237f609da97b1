"""Begin a run: planned, fitted into its time, its first fold built, and then its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imgcls.config.load import dump_yaml
from imgcls.config.model import AUTO
from imgcls.config.run import TrainConfig
from imgcls.data.loading.workers import end_where_main_is_run_again
from imgcls.data.splits.assign import split_rows as rows_of
from imgcls.engine.training.events import ChoiceEvent
from imgcls.errors import ConfigError
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.plan.plan import Plan, make_plan
from imgcls.jobs.train.assemble import Assembly, assemble
from imgcls.jobs.train.caches import RunCaches
from imgcls.jobs.train.choice.candidates import candidate_names, is_one_model
from imgcls.jobs.train.choice.choose import Chosen, choose_model
from imgcls.jobs.train.several.in_parallel import require_divisible, require_shardable
from imgcls.jobs.train.time_budget import fit_to_time
from imgcls.models.hub import check_can_be_had
from imgcls.storage.bad_images import add_bad_images
from imgcls.storage.durable import write_text
from imgcls.storage.runs import (
    CONFIG,
    MODEL_CHOICE,
    PREFLIGHT,
    SPLITS,
    create_run_folder,
)
from imgcls.storage.tables import SPLIT_COLUMNS, write_csv, write_json


@dataclass(frozen=True)
class Begun:
    """A run that is ready to train: its plan, its folder, and its first fold, if it is built.

    ensemble: the folder of the runs that it is one of.
    """

    plan: Plan
    run: Path
    first: Assembly | None = None
    ensemble: Path | None = None


def ignore_choice(_event: ChoiceEvent) -> None:
    """Tell nobody."""


def begin(
    config: TrainConfig,
    split_rows: Sequence[Mapping[str, str]] | None = None,
    *,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
    on_choice: Callable[[ChoiceEvent], None] = ignore_choice,
) -> Begun:
    """A new run for this config, ready to train, its model chosen where the config says `auto`.

    Its first fold is assembled before anything is written, so that what cannot be built, fetched or
    made leaves nothing: those RequestErrors are raised. split_rows and on_picture: see `make_plan`;
    on_choice is told of the models that are compared.
    """
    end_where_main_is_run_again()
    if config.is_ensemble:
        raise ConfigError(
            "--ensemble-models and --preset best train a folder of runs, which `imgcls train` and "
            "imgcls.train begin"
        )
    plan, chosen = plan_new(config, split_rows, on_picture=on_picture, on_choice=on_choice)
    plan, first = first_fold(plan)

    def write_choice(folder: Path) -> None:
        if chosen is not None:
            write_json(folder / MODEL_CHOICE, chosen.choice)

    return Begun(plan, start_run(plan, write_choice), first)


def plan_new(
    config: TrainConfig,
    split_rows: Sequence[Mapping[str, str]] | None = None,
    *,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
    on_choice: Callable[[ChoiceEvent], None] = ignore_choice,
) -> tuple[Plan, Chosen | None]:
    """The plan for a config, and what was chosen where it says `auto`: the plan is of the best.

    As `begin`.
    """
    require_shardable(config)
    found: list[Chosen] = []
    named, implied = config.model, config.may_choose

    def choose(config: TrainConfig, data: DataPlan) -> TrainConfig:
        from_scratch = not (data.table.defaults.pretrained or named.pretrained is True)
        if implied and from_scratch and named.weights is None and named.choosing is None:
            return config.model_copy(update={"model": named})  # all are alike
        found.append(choose_model(config, data, on_choice))
        return found[0].configs[0]

    # what starts from scratch or from one file has nothing to choose from, if nobody asks for it
    has_choice = named.pretrained is not False and not is_one_model(named.weights)
    if implied and (has_choice or named.choosing is not None):
        model = named.model_copy(update={"name": AUTO})
        config = config.model_copy(update={"model": model})
    if config.model.name == AUTO:
        candidate_names(config.model)  # what is wrong with them comes before any picture is read
    plan = make_plan(config, split_rows, choose=choose, on_picture=on_picture)
    require_divisible(plan)
    return plan, next(iter(found), None)


def preview(
    config: TrainConfig,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
    on_choice: Callable[[ChoiceEvent], None] = ignore_choice,
) -> tuple[Plan, Assembly]:
    """What `train` would do, and its first fold, built without fetching any weights.

    But for those of models that are compared. Raises the RequestErrors that `train` would, also for
    weights that cannot be had.
    """
    plan, _ = plan_new(config, on_picture=on_picture, on_choice=on_choice)
    if (count := config.model.ensemble_models) is not None:
        note = f"--ensemble-models {count}: this is the plan of the first, which the others follow"
        plan = replace(plan, notes=(*plan.notes, note))
    if plan.model.pretrained:
        check_can_be_had(plan.config.model.name)
    return first_fold(plan, load_weights=not plan.model.pretrained)


def first_fold(plan: Plan, *, load_weights: bool = True) -> tuple[Plan, Assembly]:
    """The plan as it fits into its time, and its first fold ready to train."""
    # pictures that are decoded to measure the time need not be decoded again
    caches = RunCaches.of(plan)
    plan = fit_to_time(plan, caches)
    return plan, assemble(plan, plan.data.folds[0], load_weights=load_weights, caches=caches)


def start_run(plan: Plan, also: Callable[[Path], None] = lambda _folder: None) -> Path:
    """A new run folder with its resolved config and its splits. Raises RunError.

    also: writes what else the run begins with into the folder that it is given.
    """

    def fill(folder: Path) -> None:
        write_run(plan, folder)
        also(folder)

    runtime, name = plan.config.runtime, plan.config.model.name
    return create_run_folder(runtime.output, runtime.experiment, plan.data.table.name, name, fill)


def write_run(plan: Plan, folder: Path) -> None:
    """Write what a run begins with into its folder: its splits and its resolved config."""
    data = plan.data
    write_csv(folder / SPLITS, SPLIT_COLUMNS, rows_of(data.table, data.assignment))
    if data.preflight is not None:
        add_bad_images(folder, data.preflight.unreadable)
        write_json(folder / PREFLIGHT, data.preflight)
    write_text(folder / CONFIG, dump_yaml(plan.config))
