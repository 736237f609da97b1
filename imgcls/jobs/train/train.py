"""Train new runs and go on with begun ones. All who train come through here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from imgcls.config.run import ResumeConfig, TrainConfig
from imgcls.engine.training.events import ChoiceEvent, Observer
from imgcls.engine.training.interrupt import StopRequest
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.train.choice.ensemble import begin_ensemble, train_ensemble
from imgcls.jobs.train.epochs import find_trainable
from imgcls.jobs.train.resume import resume_run
from imgcls.jobs.train.start import Begun, begin, ignore_choice
from imgcls.jobs.train.trainer import Trainer, train_folds
from imgcls.results.training import TrainResult
from imgcls.storage.ensembles import is_ensemble


def train(
    config: TrainConfig,
    observers: Sequence[Observer] = (),
    *,
    split_rows: Sequence[Mapping[str, str]] | None = None,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
    on_choice: Callable[[ChoiceEvent], None] = ignore_choice,
    on_begun: Callable[[Begun], None] = lambda _begun: None,
    on_signal: Callable[[int], None] | None = None,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Train a new run, as `imgcls train` does: where it lies, and how each fold scored.

    split_rows, on_picture, on_choice: see `begin`. on_begun is told once the run's folder is there,
    of each run of an ensemble; observers see the events of its folds. on_signal and stop, and what
    is raised: see `train_run`; RequestErrors come before anything is written.
    """
    if config.is_ensemble:
        ensemble = begin_ensemble(config, split_rows, on_picture=on_picture, on_choice=on_choice)
        return train_ensemble(
            ensemble,
            ResumeConfig(),
            observers,
            on_reopened=lambda plan, run: on_begun(Begun(plan, run, ensemble=ensemble)),
            on_signal=on_signal,
            stop=stop,
        )
    begun = begin(config, split_rows, on_picture=on_picture, on_choice=on_choice)
    on_begun(begun)
    trainer = Trainer(begun.plan, begun.run, observers, first=begun.first)
    # the trainer alone holds the first fold, to give up its memory when the next one comes
    del begun
    return train_folds(trainer, on_signal, stop=stop)


def resume(
    changes: ResumeConfig,
    observers: Sequence[Observer] = (),
    *,
    on_reopened: Callable[[Plan, Path], None] = lambda _plan, _run: None,
    on_signal: Callable[[int], None] | None = None,
    stop: StopRequest | None = None,
) -> TrainResult | None:
    """Go on with the run that `changes` names, or the newest unfinished one: how it scored.

    None where there is nothing to go on with, also where it has more epochs than `changes` wants.

    Raises as `find_trainable` and `go_on`.
    """
    run = find_trainable(changes.run, changes.output, changes.epochs).run
    if run is None:
        return None
    return go_on(run, changes, observers, on_reopened=on_reopened, on_signal=on_signal, stop=stop)


def go_on(
    run: Path,
    changes: ResumeConfig,
    observers: Sequence[Observer] = (),
    *,
    on_reopened: Callable[[Plan, Path], None] = lambda _plan, _run: None,
    on_signal: Callable[[int], None] | None = None,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Go on with this run, or all runs of this ensemble: how it scored.

    on_reopened is told before anything is trained, of each run. Raises as `resume_run`.
    """
    job = train_ensemble if is_ensemble(run) else resume_run
    return job(run, changes, observers, on_reopened=on_reopened, on_signal=on_signal, stop=stop)
