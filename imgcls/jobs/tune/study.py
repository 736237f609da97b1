"""The Optuna study behind a search: shared by processes, and outliving each of them.

A trial that was cut short (Ctrl-C, a kill, the end of the time) is told as failed and queued again
under a new number, with the number it began under in `root`; the newest of a root is what counts.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from imgcls.engine.device.runtime import derive_seed
from imgcls.errors import RunError
from imgcls.jobs.train.restore import changes
from imgcls.jobs.tune.database import DATABASE_ERRORS, Direction, open_study
from imgcls.results.search import TrialRecord
from imgcls.storage.lock import is_alive

# a trial whose process dies this often is at fault itself: it may be what kills it
_SITTINGS = 3
# what a study's database calls the settings it was begun with
_SETTINGS = "terms"
# fewer trials cannot tell the parameters apart
_ENOUGH = 5
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class Study:
    """A study that goes on wherever it was left, with the settings it was begun with.

    Raises RunError when its database cannot be used or its settings are others.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        direction: Direction,
        seed: int,
        pruner: optuna.pruners.BasePruner,
        settings: Mapping[str, Any],
        start: Mapping[str, Any] | None,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._name = name
        self._sampler = _Sampler(seed)
        self._optuna = open_study(url, name, direction, self._sampler, pruner, on_dead=_bury)
        known = self._optuna.user_attrs.get(_SETTINGS)
        if known is None:
            self._optuna.set_user_attr(_SETTINGS, dict(settings))
            if start is not None:
                self._optuna.enqueue_trial(dict(start), {"start": True}, skip_if_exists=True)
        else:
            self._check(known, settings)

    @property
    def maximize(self) -> bool:
        """True when a larger value is better."""
        return self._optuna.direction is optuna.study.StudyDirection.MAXIMIZE

    def records(self) -> list[TrialRecord]:
        """The trials by the number they began under."""
        return [_record(trial) for trial in self._newest()]

    def begun(self) -> int:
        """How many trials are done or under way, in any process."""
        return sum(trial.state is not TrialState.WAITING for trial in self._newest())

    def run_one(self, objective: optuna.study.study.ObjectiveFuncType) -> TrialRecord | None:
        """One trial, drawn and done; None where it was given back."""
        self._sampler.number = -1
        try:
            self._optuna.optimize(objective, n_trials=1, catch=(TrialFailed, TrialGivenBack))
        except AssertionError as error:
            # Optuna's complaint that it could not note how the trial ended hides the reason
            reason = error.__context__
            if isinstance(reason, DATABASE_ERRORS):
                raise reason from reason.__cause__
            raise
        done = self._optuna.get_trials(deepcopy=False)[self._sampler.number]
        return None if "given_back" in done.user_attrs else _record(done)

    def claim(self, trial: optuna.Trial, trials: float) -> None:
        """Make sure that a trial just drawn is wanted: not one too many, and a new one.

        Of processes that draw at the same time the one with the lower number goes first. Raises
        TrialGivenBack.
        """
        before = [t for t in self._newest() if t.number < trial.number]
        taken = [t for t in before if t.state is not TrialState.WAITING]
        same = next((t for t in taken if t.params == trial.params), None)
        self._sampler.explore = same is not None
        if same is not None:
            reason = f"the same as trial {root(same)}"
        elif len(taken) >= trials:
            reason = "one more than were asked for"
        else:
            return
        trial.set_user_attr("given_back", reason)
        raise TrialGivenBack

    def queue_again(self, trial: optuna.Trial | FrozenTrial) -> None:
        """Let the next free process go on with a trial that was cut short."""
        attributes = {k: v for k, v in trial.user_attrs.items() if k in ("run", "start", "deaths")}
        self._optuna.enqueue_trial(trial.params, {**attributes, "root": root(trial)})

    def reclaim(self) -> None:
        """Queue again what processes left behind when they died.

        On this machine the process itself is looked for; elsewhere its heartbeat is.
        """
        for trial in self._optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get("worker")
            if worker is None or is_alive(worker):
                continue
            try:
                self._optuna.tell(trial.number, state=TrialState.FAIL)
            except (ValueError, UpdateFinishedTrialError):
                continue  # another process was faster
            _bury(self._optuna, trial)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            optuna.storages.fail_stale_trials(self._optuna)

    def importances(self) -> dict[str, float]:
        """Each parameter's share of the differences between complete trials, largest first.

        By PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023). Empty with fewer than five, or
        where all came out alike.
        """
        complete = [t for t in self._newest() if t.state is TrialState.COMPLETE]
        if len(complete) < _ENOUGH or len({t.value for t in complete}) == 1:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = optuna.importance.get_param_importances(self._optuna)
        return {name: float(share) for name, share in shares.items()}

    def _newest(self) -> list[FrozenTrial]:
        newest: dict[int, FrozenTrial] = {}
        for trial in self._optuna.get_trials(deepcopy=False):
            if "given_back" not in trial.user_attrs:
                newest[root(trial)] = trial
        return [newest[number] for number in sorted(newest)]

    def _check(self, known: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        for path, was, now in changes(known, settings):
            what = "other pictures" if path == "pictures" else f"{path} = {was!r}, not {now!r}"
            raise RunError(
                f"the study {self._name} was begun with {what}; put it back, or begin another with "
                "--experiment NAME"
            )


class TrialFailed(Exception):  # noqa: N818  a state of a trial, not an error of ours
    """This trial's settings cannot be trained; the search goes on."""


class TrialGivenBack(Exception):  # noqa: N818  a state of a trial, not an error of ours
    """This trial was one too many, or had been done."""


def root(trial: optuna.Trial | FrozenTrial) -> int:
    """The number that the trial began under."""
    number: int = trial.user_attrs.get("root", trial.number)
    return number


class _Sampler(BaseSampler):
    """TPE with a random stream of its own for each trial.

    So two processes never draw alike, and one process that is stopped between trials goes on with
    the draws it would have made.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._inner: BaseSampler = TPESampler(seed=seed)
        self.explore = False
        self.number = -1

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.number = trial.number
        seed = derive_seed(self._seed, "trial", trial.number) % 2**32
        # where a finite space runs out, TPE keeps to its favourites
        self._inner = RandomSampler(seed=seed) if self.explore else TPESampler(seed=seed)
        self._inner.before_trial(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)


def _bury(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue a trial again whose process died, unless that happened too often."""
    deaths = trial.user_attrs.get("deaths", 0) + 1
    if deaths < _SITTINGS:
        kept = {k: v for k, v in trial.user_attrs.items() if k in ("run", "start")}
        study.enqueue_trial(trial.params, {**kept, "deaths": deaths, "root": root(trial)})


def _record(trial: FrozenTrial) -> TrialRecord:
    attrs = trial.user_attrs
    state = _STATES[trial.state]
    pruned_at = list(trial.intermediate_values.values())
    error = attrs.get("error", "its process died") if state == "failed" else None
    return TrialRecord(
        number=root(trial),
        state=state,
        value=trial.value if state == "complete" else attrs.get("best"),
        params=trial.params or trial.system_attrs.get("fixed_params", {}),
        epochs=attrs.get("epochs", len(pruned_at)),
        elapsed_s=attrs.get("elapsed_s", 0.0),
        run=attrs.get("run"),
        is_start=attrs.get("start", False),
        error=error,
    )
