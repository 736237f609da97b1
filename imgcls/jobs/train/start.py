"""Begin a run: planned, fitted into its time, its first fold built, and then its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imgcls.config.load import dump_yaml
from imgcls.config.model import AUTO
from imgcls.config.run import TrainConfig
from imgcls.data.loading.workers import end_where_main_is_run_again
from imgcls.data.splits.assign import split_rows as rows_of
from imgcls.engine.training.events import ChoiceEvent
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.plan.plan import Plan, make_plan
from imgcls.jobs.train.assemble import Assembly, assemble
from imgcls.jobs.train.caches import RunCaches
from imgcls.jobs.train.choice.candidates import candidate_names
from imgcls.jobs.train.choice.choose import choose_model
from imgcls.jobs.train.time_budget import fit_to_time
from imgcls.models.hub import check_can_be_had
from imgcls.results.models import ModelChoice
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
    """A run that is ready to train: its plan, its folder, and its first fold."""

    plan: Plan
    run: Path
    first: Assembly


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
    chosen: list[ModelChoice] = []
    if config.model.name == AUTO:
        candidate_names(config.model)  # what is wrong with them comes before any picture is read
    plan = make_plan(
        config,
        split_rows,
        choose=partial(_choose, on_choice, chosen),
        on_picture=on_picture,
    )
    plan, first = _first_fold(plan)

    def write_choice(folder: Path) -> None:
        for choice in chosen:
            write_json(folder / MODEL_CHOICE, choice)

    return Begun(plan, start_run(plan, write_choice), first)


def preview(
    config: TrainConfig,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
    on_choice: Callable[[ChoiceEvent], None] = ignore_choice,
) -> tuple[Plan, Assembly]:
    """What `train` would do, and its first fold, built without fetching any weights.

    But for those of models that are compared. Raises the RequestErrors that `train` would, also for
    weights that cannot be had.
    """
    plan = make_plan(config, choose=partial(_choose, on_choice, []), on_picture=on_picture)
    if plan.model.pretrained:
        check_can_be_had(plan.config.model.name)
    return _first_fold(plan, load_weights=not plan.model.pretrained)


def _choose(
    on_choice: Callable[[ChoiceEvent], None],
    kept: list[ModelChoice],
    config: TrainConfig,
    data: DataPlan,
) -> TrainConfig:
    chosen = choose_model(config, data, on_choice)
    kept.append(chosen.choice)
    return chosen.config


def _first_fold(plan: Plan, *, load_weights: bool = True) -> tuple[Plan, Assembly]:
    """The plan as it fits into its time, and its first fold ready to train."""
    # pictures that are decoded to measure the time need not be decoded again
    caches = RunCaches.of(plan)
    plan = fit_to_time(plan, caches)
    return plan, assemble(plan, plan.data.folds[0], load_weights=load_weights, caches=caches)


def start_run(plan: Plan, also: Callable[[Path], None] = lambda _folder: None) -> Path:
    """A new run folder with its resolved config and its splits. Raises RunError.

    also: writes what else the run begins with into the folder that it is given.
    """
    data, config = plan.data, plan.config

    def fill(folder: Path) -> None:
        write_csv(folder / SPLITS, SPLIT_COLUMNS, rows_of(data.table, data.assignment))
        if data.preflight is not None:
            add_bad_images(folder, data.preflight.unreadable)
            write_json(folder / PREFLIGHT, data.preflight)
        write_text(folder / CONFIG, dump_yaml(config))
        also(folder)

    runtime = config.runtime
    return create_run_folder(
        runtime.output, runtime.experiment, data.table.name, config.model.name, fill
    )
