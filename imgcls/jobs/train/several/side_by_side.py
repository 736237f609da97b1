"""Folds that train side by side, one in each process of the command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from imgcls.engine.device.kept import kept
from imgcls.engine.device.world import world
from imgcls.engine.training.events import (
    Event,
    FeaturesDone,
    HeadPassDone,
    Observer,
    StepDone,
    ValidationBatchDone,
    broadcast,
)
from imgcls.engine.training.interrupt import stop_on_signals
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.train.caches import RunCaches
from imgcls.jobs.train.fold import train_fold
from imgcls.output.run_files import HistoryFile
from imgcls.results.training import FoldResult

# of progress alone: too many to be told later, and nothing is kept of them
_PASSING = (StepDone, ValidationBatchDone, FeaturesDone, HeadPassDone)


def train_side_by_side(
    plan: Plan,
    run: Path,
    train_own: Callable[[int], FoldResult],
    finish_other: Callable[[FoldResult], None],
    emit: Observer,
    *,
    force: bool,
) -> tuple[FoldResult, ...]:
    """Train all folds of a run, as many at a time as there are processes.

    train_own: trains a fold in this process. The events of the others' folds are told behind those
    of this one's, then `finish_other` of their results. A stop is heard in each process for itself.
    """
    here = world()
    results: list[FoldResult] = []
    folds = plan.data.folds
    with kept(plan) as sent:
        for first in range(0, len(folds), here.size):
            together = folds[first : first + here.size]
            with here.everywhere(_train_beside, sent, run, together, force):
                with here.apart():
                    results.append(train_own(together[0]))
                here.agree()
                found = here.gather(None)
            for told in found[1:]:
                if told is None:
                    continue
                result, events = told
                for event in events:
                    emit(event)
                finish_other(result)
                results.append(result)
    return tuple(results)


def _train_beside(plan: Plan, run: Path, folds: Sequence[int], force: bool) -> None:
    here = world()
    told: tuple[FoldResult, list[Event]] | None = None
    if here.rank < len(folds):
        events: list[Event] = []

        def keep(event: Event) -> None:
            if not isinstance(event, _PASSING):
                events.append(event)

        with here.apart(), stop_on_signals() as stop:
            result, _ = train_fold(
                plan,
                run,
                folds[here.rank],
                None,
                caches=RunCaches.of(plan),
                emit=broadcast([HistoryFile(), keep]),
                stop=stop,
                force=force,
                in_charge=False,
            )
        told = result, events
    here.agree()
    here.gather(told)
