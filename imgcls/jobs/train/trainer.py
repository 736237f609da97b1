"""Train the folds of a run one by one, in charge of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn

from imgcls.config.evaluate import EvaluateConfig
from imgcls.config.run import TrainConfig
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.scoring.evaluation import validate_loader
from imgcls.engine.scoring.loaders import device_of
from imgcls.engine.training.events import (
    Evaluated,
    Observer,
    RunEnded,
    TrackerFailed,
    broadcast,
)
from imgcls.engine.training.interrupt import SignalledError, StopRequest
from imgcls.engine.training.selection.validation import validate_epoch
from imgcls.errors import (
    ConfigError,
    ImgclsError,
    InterruptedRunError,
    RunError,
)
from imgcls.jobs.evaluate.evaluate import evaluate
from imgcls.jobs.evaluate.folds import summarize
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.train.assemble import Assembly
from imgcls.jobs.train.caches import RunCaches
from imgcls.jobs.train.fold import train_fold
from imgcls.jobs.train.in_charge import in_charge
from imgcls.jobs.train.restore import require_as_begun
from imgcls.jobs.train.several.side_by_side import train_side_by_side
from imgcls.jobs.train.start import begin
from imgcls.output.observers import run_observers
from imgcls.results.training import FoldResult, TrainResult
from imgcls.storage.bad_images import count_bad_images
from imgcls.storage.caches import remove_features
from imgcls.storage.pointers import CHECKPOINTS, last_of
from imgcls.storage.runs import fold_folder, fold_is_finished, read_model_choice
from imgcls.storage.tracked import is_tracked_to_the_end


class Trainer:
    """Trains the folds of one run one by one, each from wherever its checkpoints say it is.

    From Python: `Trainer.begin(TrainConfig(...)).train_fold(0)`; `imgcls.train` trains all folds.
    """

    def __init__(
        self,
        plan: Plan,
        run: Path,
        observers: Sequence[Observer] = (),
        *,
        first: Assembly | None = None,
        force: bool = False,
    ) -> None:
        self.plan = plan
        self.run = run
        tell = broadcast(observers) if observers else None
        own = run_observers(plan.config, run, plan.data.table.fingerprint, tell)
        self._emit = broadcast((*own, *observers))
        self._force = force
        self._assembly = first
        self._caches = RunCaches.of(plan) if first is None else first.caches

    @classmethod
    def begin(cls, config: TrainConfig, observers: Sequence[Observer] = ()) -> Trainer:
        """A trainer with a new run folder for this config; an error leaves nothing behind."""
        begun = begin(config)
        return cls(begun.plan, begun.run, observers, first=begun.first)

    def train_fold(self, fold: int = 0) -> FoldResult:
        """Train a fold to its end and return where it lies and how its best epoch scored.

        As `imgcls train --fold`: the run is locked, `history.csv` kept, and in the main thread a
        signal saves and stops. Raises ConfigError for a fold that the run has not, RunError where
        another process trains it, and as `train_run`; called again, it goes on.
        """
        folds = range(max(self.plan.config.data.folds, 1))
        if fold not in folds:
            raise ConfigError(f"fold {fold}: the run has folds {folds[0]} to {folds[-1]}")
        with in_charge(self.run, None, None) as stop, self.told_of_the_end():
            result = self.train(fold, stop)
            planned = self.plan.data.folds
            if all(fold_is_finished(fold_folder(self.run, n)) for n in planned):
                self.finish()
        return result

    @contextlib.contextmanager
    def told_of_the_end(self) -> Iterator[None]:
        """A block in which the run is trained; observers hear how it ended."""
        try:
            yield
        except BaseException as error:
            stopped = isinstance(error, (InterruptedRunError, SignalledError, KeyboardInterrupt))
            self._emit(RunEnded("stopped" if stopped else "failed"))
            raise
        self._emit(RunEnded("finished"))

    def train(self, fold: int, stop: StopRequest) -> FoldResult:
        """Train a fold of a run that the caller holds, until it ends or `stop` is asked for."""
        shown = self._shown(fold)
        if self._assembly is not None and self._assembly.fold != fold:
            # the memory of one fold's model and optimizer is the next one's
            self._assembly = None
        result, self._assembly = train_fold(
            self.plan,
            self.run,
            fold,
            self._assembly,
            caches=self._caches,
            emit=self._emit,
            stop=stop,
            force=self._force,
        )
        self._evaluate_for_trackers(result, stop, shown)
        return result

    def train_all(self, stop: StopRequest) -> tuple[FoldResult, ...]:
        """Train all folds of a run that the caller holds, one by one or side by side."""
        folds = self.plan.data.folds
        if not self.plan.config.runtime.parallel_folds:
            return tuple(self.train(fold, stop) for fold in folds)
        shown = {fold: self._shown(fold) for fold in folds}
        return train_side_by_side(
            self.plan,
            self.run,
            lambda fold: self.train(fold, stop),
            lambda result: self._evaluate_for_trackers(result, stop, shown[result.fold]),
            self._emit,
            force=self._force,
        )

    def _shown(self, fold: int) -> Path | None:
        """What trackers were shown of a finished fold, which stands until it is trained longer."""
        folder = fold_folder(self.run, fold)
        return last_of(folder / CHECKPOINTS) if is_tracked_to_the_end(folder) else None

    def _evaluate_for_trackers(
        self, fold: FoldResult, stop: StopRequest, shown: Path | None
    ) -> None:
        """Evaluate the best epoch on val: the trackers then show its plots and its page.

        shown: the last checkpoint, where they have. That it cannot be done ends no training.
        """
        config = self.plan.config
        if config.runtime.log == "none" or last_of(fold.folder / CHECKPOINTS) == shown:
            return
        try:
            with stop.at_once():
                report = evaluate(
                    EvaluateConfig(
                        checkpoint=fold.best_checkpoint,
                        split="val",
                        batch_size=config.data.batch_size,
                        device=config.runtime.device,
                        workers=config.runtime.workers,
                        on_bad_image=config.data.on_bad_image,
                    ),
                    tell_trackers=False,
                )
        except SignalledError as error:
            raise InterruptedRunError(
                "stopped by a signal after the last epoch, in the evaluation that --log shows",
                error.signal_number,
            ) from None
        except (ImgclsError, OSError) as error:
            self._emit(TrackerFailed(",".join(config.runtime.log), f"no evaluation: {error}"))
            return
        if report.folder is not None:
            self._emit(Evaluated(fold.best_epoch, report.folder))

    def finish(self) -> dict[str, Any] | None:
        """The summary of several folds, written once all are trained; None for a single one."""
        summary = summarize(self.plan, self.run) if len(self.plan.data.folds) > 1 else None
        remove_features(self.run)
        return summary

    @overload
    def validate_epoch(self) -> dict[str, float | None]: ...

    @overload
    def validate_epoch(
        self,
        model: nn.Module,
        dataloader: Iterable[Any],
        loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        epoch: int | None = None,
    ) -> dict[str, float]: ...

    def validate_epoch(
        self,
        model: nn.Module | None = None,
        dataloader: Iterable[Any] | None = None,
        loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
        epoch: int | None = None,
    ) -> dict[str, float | None] | dict[str, float]:
        """The `val_` metrics of the fold trained last, with its weights as they are now.

        Or of a model over a DataLoader's pictures, see `validate_loader`: on the device that the
        model is on, in the run's precision where that is the run's device.
        """
        if model is None:
            if self._assembly is None:
                raise RunError(
                    "validate_epoch: train a fold first, or give a model and a DataLoader"
                )
            return dict(validate_epoch(self._assembly.parts).metrics)
        if dataloader is None:
            raise ConfigError("validate_epoch: give the dataloader to validate the model on")
        return validate_loader(model, dataloader, self._compute_of(model), loss_fn, epoch)

    def _compute_of(self, model: nn.Module) -> ComputeSettings:
        ours, device = self.plan.compute, device_of(model)
        same = device.type == ours.device.type
        return ComputeSettings(device, ours.precision if same else None)


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
        folds = trainer.train_all(request)
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
