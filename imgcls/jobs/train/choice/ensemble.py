"""Several models trained on one split, or the folds of one, and their average, evaluated.

Each model is a run of its own in the ensemble's folder (`imgcls.storage.ensembles`), begun with all
the others at once, so that what a kill leaves goes on as any run does, one behind the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgcls.config.augment import AugmentConfig
from imgcls.config.evaluate import EvaluateConfig
from imgcls.config.load import dump_yaml
from imgcls.config.model import AUTO
from imgcls.config.run import ResumeConfig, TrainConfig
from imgcls.data.loading.workers import end_where_main_is_run_again
from imgcls.data.splits.assign import split_rows as rows_of
from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.engine.training.events import ChoiceEvent, Observer
from imgcls.engine.training.interrupt import StopRequest
from imgcls.jobs.evaluate.evaluate import evaluate
from imgcls.jobs.evaluate.pictures import has_split
from imgcls.jobs.plan.plan import Plan, make_plan
from imgcls.jobs.train.choice.choose import Chosen
from imgcls.jobs.train.resume import resume_run
from imgcls.jobs.train.start import first_fold, plan_new, write_run
from imgcls.results.evaluation import EvalReport
from imgcls.results.training import TrainResult
from imgcls.storage.durable import write_text
from imgcls.storage.ensembles import member_runs, read_ensemble_config, trained_members
from imgcls.storage.runs import (
    ENSEMBLE,
    MODEL_CHOICE,
    SUMMARY,
    create_run_folder,
    plain_name,
    read_model_choice,
    read_run_config,
)
from imgcls.storage.tables import write_json


def begin_ensemble(
    config: TrainConfig,
    split_rows: Sequence[Mapping[str, str]] | None = None,
    *,
    on_picture: Callable[[int, int], None],
    on_choice: Callable[[ChoiceEvent], None],
) -> Path:
    """A new folder with a begun run for each model of the ensemble.

    The first fold of each is assembled before anything is written, so that what cannot be built,
    fetched or made leaves nothing. As `begin`.
    """
    end_where_main_is_run_again()
    plan, chosen = plan_new(config, split_rows, on_picture=on_picture, on_choice=on_choice)
    rows = list(rows_of(plan.data.table, plan.data.assignment))
    others = () if chosen is None else chosen.configs[1:]
    plans = [plan, *(make_plan(other, rows) for other in others)]
    plans = [_of_one_run(first_fold(one)[0]) for one in plans]

    def fill(folder: Path) -> None:
        for one in plans:
            run = folder / plain_name(one.config.model.name)
            run.mkdir()
            write_run(one, run)
        if chosen is not None:
            write_json(folder / MODEL_CHOICE, chosen.choice)
        write_text(folder / ENSEMBLE, dump_yaml(_repeating(config, plans, chosen)))

    runtime, data = config.runtime, plan.data.table.name
    return create_run_folder(runtime.output, runtime.experiment, data, "ensemble", fill)


def _of_one_run(plan: Plan) -> Plan:
    """The plan, with the config that repeats it without the others."""
    recipe = plan.config.recipe.model_copy(update={"preset": "default"})
    return replace(plan, config=plan.config.model_copy(update={"recipe": recipe}))


def _repeating(config: TrainConfig, plans: Sequence[Plan], chosen: Chosen | None) -> TrainConfig:
    """The config that trains the same models again, none of which is measured anew."""
    first = plans[0].config
    if len(plans) == 1:
        recipe = first.recipe.model_copy(update={"preset": config.recipe.preset})
        return first.model_copy(update={"recipe": recipe})
    assert chosen is not None  # there is no other way to several
    weights = config.model.weights
    model = config.model.model_copy(
        update={
            "name": AUTO,
            "candidates": chosen.choice.ensemble,
            "max_params": None,
            "max_latency_ms": None,
            "weights": None if weights is None else weights.expanduser().absolute(),
        }
    )
    return config.model_copy(update={"data": first.data, "reading": first.reading, "model": model})


def train_ensemble(
    ensemble: Path,
    changes: ResumeConfig,
    observers: Sequence[Observer] = (),
    *,
    on_reopened: Callable[[Plan, Path], None] = lambda _plan, _run: None,
    on_signal: Callable[[int], None] | None = None,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Train all runs of an ensemble to their end, and evaluate their average on test.

    Each goes on from where it is; as `resume_run`.
    """
    members = tuple(
        resume_run(run, changes, observers, on_reopened=on_reopened, on_signal=on_signal, stop=stop)
        for run in member_runs(ensemble)
    )
    average = _average(ensemble)
    write_json(ensemble / SUMMARY, _summary(members, average))
    return TrainResult(
        ensemble,
        " + ".join(member.model_name for member in members),
        members[0].class_names,
        folds=(),
        bad_images=max(member.bad_images for member in members),
        model_choice=read_model_choice(ensemble),
        members=members,
        average=average,
    )


def _average(ensemble: Path) -> EvalReport | None:
    """The average's scores on test, evaluated as `imgcls evaluate` does; None without a test."""
    first = read_checkpoint(trained_members(ensemble, "--ensemble")[0])
    if not has_split(first, "test"):
        return None
    config = read_run_config(member_runs(ensemble)[0])
    preset = read_ensemble_config(ensemble).recipe.preset
    return evaluate(
        EvaluateConfig(
            checkpoint=ensemble,
            batch_size=config.data.batch_size,
            device=config.runtime.device,
            workers=config.runtime.workers,
            on_bad_image=config.data.on_bad_image,
            tta=_flips(config.augment) if preset == "best" else "none",
        ),
        tell_trackers=False,
    )


def _flips(augment: AugmentConfig) -> str:
    """The views of `--tta` that training has shown the model too."""
    if not augment.hflip:
        return "none"
    return "flips" if augment.vflip else "hflip"


def _summary(members: Sequence[TrainResult], average: EvalReport | None) -> dict[str, Any]:
    """What `summary.json` holds: each run's best epochs on val, and the average on test."""
    return {
        "models": {
            member.model_name: [fold.best_metrics for fold in member.folds] for member in members
        },
        "average": None
        if average is None
        else {
            "split": average.split,
            "metrics": average.metrics,
            "undefined": average.undefined,
            "intervals": average.intervals,
        },
    }
