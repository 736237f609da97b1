"""Train a run: plan, time budget, parts, folder, folds. All who train come through here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from imgcls.config.run import TrainConfig
from imgcls.engine.training.events import ChoiceEvent, Observer
from imgcls.engine.training.interrupt import StopRequest
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.train.restore import require_as_begun
from imgcls.jobs.train.start import Begun, begin, ignore_choice
from imgcls.jobs.train.trainer import Trainer, in_charge
from imgcls.results.training import TrainResult
from imgcls.storage.bad_images import count_bad_images
from imgcls.storage.runs import read_model_choice


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

    split_rows, on_picture, on_choice: see `begin`. on_begun is told once the run's folder is there;
    observers see the events of its folds. on_signal and stop, and what is raised: see `train_run`;
    RequestErrors come before anything is written.
    """
    begun = begin(config, split_rows, on_picture=on_picture, on_choice=on_choice)
    on_begun(begun)
    trainer = Trainer(begun.plan, begun.run, observers, first=begun.first)
    # the trainer alone holds the first fold, to give up its memory when the next one comes
    del begun
    return train_folds(trainer, on_signal, stop=stop)


def train_run(
    plan: Plan,
    run: Path,
    observers: Sequence[Observer] = (),
    on_signal: Callable[[int], None] | None = None,
    *,
    force: bool = False,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Train all folds of a run that are not finished: how each scored, several summed up.

    force: go on from checkpoints whose data or config are not the plan's. stop: where the caller
    asks for a stop.

    Raises InterruptedRunError after SIGINT, SIGTERM, SIGHUP, SIGUSR1 or the caller's request, with
    everything saved, and the RunFailedErrors; whatever was saved before stays good.
    """
    trainer = Trainer(plan, run, observers, force=force)
    return train_folds(trainer, on_signal, force=force, stop=stop)


def train_folds(
    trainer: Trainer,
    on_signal: Callable[[int], None] | None = None,
    *,
    force: bool = False,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Train all folds of a trainer's run, as `train_run` does."""
    plan, run = trainer.plan, trainer.run
    with in_charge(run, on_signal, stop) as request, trainer.told_of_the_end():
        if not force:
            require_as_begun(plan.config, plan.data, run)
        folds = tuple(trainer.train(fold, request) for fold in plan.data.folds)
        summary = trainer.finish()
    return TrainResult(
        run,
        plan.config.model.name,
        plan.data.class_names,
        folds,
        summary,
        count_bad_images(run),
        read_model_choice(run),
    )
