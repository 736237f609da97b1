"""One trial of a search: a run with other settings, watched and perhaps ended early."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import optuna

from imgcls.config.load import with_values
from imgcls.config.run import ResumeConfig, TrainConfig
from imgcls.config.tune import SearchConfig
from imgcls.engine.training.events import (
    EpochDone,
    Event,
    FeaturesDone,
    FoldStarted,
    HeadPassDone,
    StepDone,
    ValidationBatchDone,
)
from imgcls.engine.training.interrupt import StopRequest
from imgcls.engine.training.selection.trackers import MetricTracker
from imgcls.errors import (
    ConfigError,
    DeviceMemoryError,
    InterruptedRunError,
    ModelError,
    NonFiniteError,
)
from imgcls.jobs.train.resume import resume_run
from imgcls.jobs.train.train import train
from imgcls.jobs.tune.space import suggest
from imgcls.jobs.tune.study import Study, TrialFailed, root
from imgcls.results.search import TrialRecord
from imgcls.results.training import TrainResult
from imgcls.storage.lock import this_process
from imgcls.storage.runs import CONFIG
from imgcls.storage.splits import read_splits

# the fault of a trial's settings, not of the data or the machine
_FAULTS = (NonFiniteError, DeviceMemoryError, ConfigError, ModelError)
_PRUNED, _TIME_IS_UP = "because others did better", "because the time is up"


class OutOfTimeError(Exception):
    """The time of the search is up; the trial under way is saved and queued again."""


class SearchView(Protocol):
    """An observer of a search, and of the loops of its trials."""

    def __call__(self, event: Event) -> None:
        """See what the loop of a trial tells."""

    def begin(self, number: int, begun: int) -> None:
        """See a trial begin; `begun`: how many are done or under way, this one included."""

    def end(self, record: TrialRecord) -> None:
        """See a trial end."""

    def on_signal(self, number: int) -> None:
        """Say that a signal was heard."""


@dataclass(frozen=True)
class Search:
    """A search that can go on: where, from what, over what, by which metric.

    command: what to type to go on with it.
    """

    folder: Path
    command: str
    settings: SearchConfig
    base: TrainConfig
    space: dict[str, Any]
    metric: str
    study: Study


def trial_of(
    search: Search, view: SearchView, wanted: float, deadline_s: float, stop: StopRequest
) -> Callable[[optuna.Trial], float]:
    """The objective that Optuna calls with each trial that it draws.

    It raises TrialGivenBack, TrialFailed, TrialPruned, OutOfTimeError and InterruptedRunError.
    """
    study = search.study

    def objective(trial: optuna.Trial) -> float:
        params = suggest(trial, search.space)
        trial.set_user_attr("worker", this_process())
        if "root" not in trial.user_attrs:
            study.claim(trial, wanted)
        view.begin(root(trial), study.begun())
        stop.reason = None
        watch = _Watch(trial, search.metric, stop, deadline_s, prune=search.settings.prune)
        try:
            result = _train(search, trial, params, (view, watch), stop)
        except _FAULTS as error:
            trial.set_user_attr("error", str(error))
            raise TrialFailed from error
        except InterruptedRunError:
            heard = stop.signal_number is not None
            if stop.reason == _PRUNED and not heard:
                raise optuna.TrialPruned from None
            study.queue_again(trial)
            if stop.reason == _TIME_IS_UP and not heard:
                raise OutOfTimeError from None
            raise
        except BaseException:
            study.queue_again(trial)
            raise
        finally:
            watch.note()
        return mean_of_folds(result, search.metric)

    return objective


def _train(
    search: Search,
    trial: optuna.Trial,
    params: dict[str, Any],
    observers: tuple[SearchView, _Watch],
    stop: StopRequest,
) -> TrainResult:
    """Train the trial in a new run, or go on in the one where an earlier sitting left it."""
    on_signal = observers[0].on_signal
    name = trial.user_attrs.get("run")
    if name is not None and (search.folder / name / CONFIG).is_file():
        run = search.folder / name
        return resume_run(run, ResumeConfig(), observers, on_signal=on_signal, stop=stop)
    config = with_values(
        search.base,
        {
            **params,
            "runtime.output": str(search.folder),
            "runtime.experiment": f"trial-{root(trial):04d}",
            "early_stopping.metric": search.metric,
        },
    )
    return train(
        config,
        observers,
        split_rows=read_splits(search.folder),
        on_begun=lambda begun: trial.set_user_attr("run", begun.run.name),
        on_signal=on_signal,
        stop=stop,
    )


class _Watch:
    """An observer that tells the study how a trial goes.

    It does not steer the loop: like a signal's handler it asks for a stop, which the loop meets at
    its next step, where all is saved. Only the first fold is pruned: later ones have no equals.
    """

    def __init__(
        self, trial: optuna.Trial, metric: str, stop: StopRequest, deadline_s: float, *, prune: bool
    ) -> None:
        self._trial = trial
        self._metric = metric
        self._stop = stop
        self._deadline_s = deadline_s
        self._prune = prune
        self._first_fold: int | None = None
        self._in_first_fold = True
        self._tracker = MetricTracker(metric)
        self._epochs = 0
        self._elapsed_s = 0.0

    def __call__(self, event: Event) -> None:
        match event:
            case FoldStarted():
                if self._first_fold is None:
                    self._first_fold = event.fold
                self._in_first_fold = event.fold == self._first_fold
                for row in event.history:
                    self._report(row)
            case FeaturesDone() | HeadPassDone() | StepDone() | ValidationBatchDone():
                if time.monotonic() >= self._deadline_s:
                    self._stop.reason = _TIME_IS_UP
            case EpochDone():
                self._report(event.history[-1])
            case _:
                pass

    def _report(self, row: Mapping[str, float | None]) -> None:
        epoch = int(row["epoch"] or 0)
        self._epochs += epoch > 0  # 0 is the fitted classifier
        self._elapsed_s += row["epoch_time"] or 0.0
        value = row[self._metric]
        if not self._in_first_fold or value is None:
            return
        self._tracker.update(epoch, row)
        self._trial.report(value, epoch)
        if self._prune and self._trial.should_prune():
            self._stop.reason = _PRUNED

    def note(self) -> None:
        """Keep with the trial how long it took, and its best epoch's value so far."""
        self._trial.set_user_attr("epochs", self._epochs)
        self._trial.set_user_attr("elapsed_s", self._elapsed_s)
        self._trial.set_user_attr("best", self._tracker.best_value)


def mean_of_folds(result: TrainResult, metric: str) -> float:
    """The mean over the folds of what each fold's best epoch scored."""
    values: list[float] = []
    for fold in result.folds:
        value = fold.best_metrics[metric]
        # the epoch is the best by this very metric, so it has one
        assert value is not None, f"{fold.folder}: its best epoch has no {metric}"
        values.append(value)
    return math.fsum(values) / len(values)
