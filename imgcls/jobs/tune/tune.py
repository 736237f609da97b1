"""Search for better settings: each trial an ordinary run, in the study's folder.

outputs/<study>/
  tune.yaml       the search as it was asked for: `imgcls tune --config` on it goes on
  study.db        the Optuna study, unless --storage says otherwise
  splits.csv      the split that all trials share
  trials.csv      one row a trial
  best.yaml       `imgcls train --config` on it trains the best trial again
  trial-0000/ ... the runs
"""

from __future__ import annotations

import math
import os
import shlex
import stat
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import optuna

from imgcls.config.files import read_text
from imgcls.config.load import dump_yaml, with_values
from imgcls.config.run import TrainConfig
from imgcls.config.tune import TuneConfig, without_password
from imgcls.data.splits.assign import split_rows
from imgcls.engine.training.interrupt import stop_on_signals
from imgcls.engine.training.selection.trackers import MetricTracker
from imgcls.errors import InterruptedRunError, OutputError, RunError, RunFailedError
from imgcls.jobs.plan.idle import idle_options
from imgcls.jobs.plan.plan import Plan, make_plan
from imgcls.jobs.train.assemble import Assembly, assemble
from imgcls.jobs.tune.database import DATABASE_ERRORS
from imgcls.jobs.tune.space import combinations, search_space, starting_point
from imgcls.jobs.tune.study import Study
from imgcls.jobs.tune.trial import OutOfTimeError, Search, SearchView, trial_of
from imgcls.results.search import TrialRecord, TuneResult
from imgcls.storage.durable import why_not_written, write_text, writing
from imgcls.storage.runs import CONFIG, SPLITS, plain_name
from imgcls.storage.tables import SPLIT_COLUMNS, write_csv

SEARCH, TRIALS, BEST, DATABASE = "tune.yaml", "trials.csv", "best.yaml", "study.db"
_FILES = (SEARCH, SPLITS, TRIALS, BEST, DATABASE)
# what may differ between the processes on one study
_FREE: dict[str, set[str] | bool] = {
    "data": {"source"},
    "reading": {"root"},
    "checkpoint": True,
    "runtime": {"device", "workers", "output", "experiment"},
}


def open_search(
    config: TuneConfig, on_picture: Callable[[int, int], None] = lambda _done, _total: None
) -> tuple[Search, Plan, Assembly]:
    """The search of this name, begun or gone on with, and what it starts from, to be shown.

    That is a plan and its first fold. on_picture is told
    (pictures checked, pictures in all). Raises the RequestErrors of `make_plan`, and RunError when
    the study has other settings.
    """
    plan = make_plan(config.base(), on_picture=on_picture)
    resolved = plan.config
    where = {
        "data.source": resolved.data.source,
        "reading.root": resolved.reading.root and str(resolved.reading.root),
        "reading.bit_depth": resolved.reading.bit_depth,
        "model.weights": resolved.model.weights and str(resolved.model.weights),
    }
    base = with_values(config.base(), where)
    space = search_space(config, plan.pace.lr, idle_options(plan.recipe, resolved))
    # before anything is written: what cannot be built or fetched leaves nothing behind
    first = assemble(plan, plan.data.folds[0])
    folder = _folder(config, plan)
    # before the files, which a search with other settings must not touch
    study = _open_study(config, plan, folder, space=space, base=base)
    _make(folder)
    kept = with_values(config, {**where, "runtime.experiment": folder.name})
    storage = config.search.storage
    public = None if storage is None else without_password(storage)
    search_kept = kept.search.model_copy(update={"space": space, "storage": public})
    # what is kept without its password must be typed again
    again = "" if storage == public else " --storage URL"
    with writing(folder):
        # first, because it tells that the folder is a search's
        write_text(folder / SEARCH, dump_yaml(kept.model_copy(update={"search": search_kept})))
        # one split for all trials, on pictures that were checked once
        write_csv(folder / SPLITS, SPLIT_COLUMNS, split_rows(plan.data.table, plan.data.assignment))
    search = Search(
        folder=folder,
        command=f"imgcls tune --config {shlex.quote(str(folder / SEARCH))}{again}",
        settings=config.search,
        base=base,
        space=space,
        metric=resolved.early_stopping.metric,
        study=study,
    )
    return search, plan, first


def _folder(config: TuneConfig, plan: Plan) -> Path:
    data, model = plain_name(plan.data.table.name), plain_name(plan.config.model.name)
    folder = config.runtime.output / (config.runtime.experiment or f"tune-{data}-{model}")
    if (folder / CONFIG).exists():
        raise RunError(f"{folder}: a run, not a search; give the search another --experiment NAME")
    _require_replaceable(folder)
    return folder


def _require_replaceable(folder: Path) -> None:
    """Raise RunError where a file of the search would replace one that no search wrote."""
    another = "give the search another --experiment NAME"
    # by links too: what they lead to is not the search's
    present = [folder / name for name in _FILES if os.path.lexists(folder / name)]
    for file in present:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise RunError(f"{file}: is no ordinary file and is never replaced; {another}")
    if present and not {folder / SEARCH, folder / DATABASE} & set(present):
        raise RunError(f"{present[0]}: exists, and no search of imgcls wrote it; {another}")
    if (folder / SEARCH).is_file() and not _is_search(folder / SEARCH):
        raise RunError(f"{folder / SEARCH}: exists, and imgcls did not write it; {another}")


def _is_search(file: Path) -> bool:
    """Whether the file is the config of a search; an empty one is nobody's loss."""
    text = read_text(file)
    return not text or {"data:", "search:"} <= set(text.splitlines())


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{folder}: cannot be made: {why_not_written(error)}") from error


def _open_study(
    config: TuneConfig, plan: Plan, folder: Path, *, space: dict[str, Any], base: TrainConfig
) -> Study:
    metric = plan.config.early_stopping.metric
    if config.search.storage is None:
        _make(folder)
    # the first third of the epochs says little: the rates are rising, or at their top
    warmup = math.ceil(plan.pace.epochs / 3)
    return Study(
        config.search.storage or f"sqlite:///{(folder / DATABASE).absolute()}",
        folder.name,
        direction="minimize" if MetricTracker(metric).mode == "min" else "maximize",
        seed=plan.config.runtime.seed,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warmup),
        settings={
            "pictures": plan.data.table.fingerprint(),
            "search": {"space": space, "metric": metric},
            **base.model_dump(mode="json", exclude=_FREE),
        },
        start=starting_point(space, plan.config),
    )


def run_search(search: Search, view: SearchView) -> TuneResult:
    """The outcome of a search: trials are done until there are enough or the time is up.

    Raises InterruptedRunError after a signal, with the trial under way saved and queued again;
    RunFailedError when no trial came to its end; OutputError when the study's database fails.
    """
    minutes = search.settings.max_minutes
    deadline_s = math.inf if minutes is None else time.monotonic() + 60 * minutes
    wanted = min(search.settings.trials, combinations(search.space))
    study = search.study
    with stop_on_signals(view.on_signal) as stop:
        try:
            while stop.signal_number is None and time.monotonic() < deadline_s:
                study.reclaim()
                if study.begun() >= wanted:
                    break
                record = study.run_one(trial_of(search, view, wanted, deadline_s, stop))
                if record is not None:
                    view.end(record)
        except OutOfTimeError:
            pass
        except InterruptedRunError as error:
            stop.signal_number = error.exit_code - 128
        except KeyboardInterrupt:
            stop.signal_number = 2
        except DATABASE_ERRORS as error:
            reason = " ".join(str(error.__cause__ or error).split())[:200]
            raise OutputError(
                f"the study's database cannot be used any more: {reason}; the runs are intact, go "
                f"on with: {search.command}"
            ) from error
    records = study.records()
    with _writing_into(search):
        write_csv(search.folder / TRIALS, _columns(search.space), map(_row, records))
    if stop.signal_number is not None:
        done = sum(r.state in ("complete", "pruned", "failed") for r in records)
        raise InterruptedRunError(
            f"stopped by a signal; {done} of {search.settings.trials} trials are done; go on with: "
            f"{search.command}",
            stop.signal_number,
        )
    return _summed_up(search, records)


def _writing_into(search: Search) -> AbstractContextManager[None]:
    return writing(search.folder, f"the trials are intact, go on with: {search.command}")


def _summed_up(search: Search, records: list[TrialRecord]) -> TuneResult:
    complete = [r for r in records if r.state == "complete"]
    failed = [r for r in records if r.state == "failed"]
    if not complete and failed:
        raise RunFailedError(
            f"no trial came to its end; trial {failed[0].number}: {failed[0].error}"
        )
    if not complete:
        raise RunFailedError(
            "no trial has come to its end: the time was up, or another process has it; go on with: "
            f"{search.command}"
        )
    study = search.study
    sign = -1 if study.maximize else 1
    # among equals the earlier: the settings that the search started from win a tie
    best = min(complete, key=lambda r: (sign * cast("float", r.value), r.number))
    with _writing_into(search):
        write_text(search.folder / BEST, dump_yaml(with_values(search.base, best.params)))
    return TuneResult(
        study=search.folder,
        metric=search.metric,
        trials=tuple(records),
        best=best,
        start=next((r for r in complete if r.is_start), None),
        importances=study.importances(),
        best_config=search.folder / BEST,
        command=search.command,
    )


def _columns(space: dict[str, Any]) -> list[str]:
    return [*(f.name for f in fields(TrialRecord) if f.name != "params"), *space]


def _row(trial: TrialRecord) -> dict[str, Any]:
    row = trial.to_json()
    return {**row.pop("params"), **row}
