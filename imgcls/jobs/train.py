"""Train a run's folds, from the beginning or from where their checkpoints say they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from imgcls.config.load import dump_yaml
from imgcls.config.run import ResumeConfig, TrainConfig
from imgcls.data.bad_images import BadImage
from imgcls.data.split import split_rows
from imgcls.engine.checkpointer import GO_ON, Checkpointer, find_sound
from imgcls.engine.durable import write_text, writing
from imgcls.engine.events import FeaturesDone, ImageSkipped, Observer, Resumed
from imgcls.engine.fit import FitSettings, broadcast, fit, validate_epoch
from imgcls.engine.interrupt import SignalledError, StopRequest, stop_on_signals
from imgcls.engine.lock import lock_run
from imgcls.engine.losses import stated_prior
from imgcls.engine.pointers import BEST, LAST, best_of, last_of, settle
from imgcls.engine.runtime import versions
from imgcls.engine.sidecar import read_sidecar
from imgcls.errors import (
    CheckpointError,
    DeviceMemoryError,
    InterruptedRunError,
    OutputError,
    RunError,
    RunFailedError,
)
from imgcls.jobs.assemble import Assembly, assemble
from imgcls.jobs.crossval import summarize
from imgcls.jobs.features import FeatureStore
from imgcls.jobs.head import fit_head
from imgcls.jobs.plan import Plan, make_plan
from imgcls.jobs.restore import restore
from imgcls.jobs.runs import (
    CONFIG,
    PREFLIGHT,
    SPLITS,
    SUMMARY,
    create_run_folder,
    fold_folder,
    read_run_config,
)
from imgcls.jobs.time_budget import fit_to_time
from imgcls.metrics.trackers import MetricTracker
from imgcls.report.bad_images import add_bad_images, count_bad_images
from imgcls.report.files import SPLIT_COLUMNS, read_csv, write_csv, write_json
from imgcls.results import AuditPicture, FoldResult, TrainResult


def start_run(plan: Plan) -> Path:
    """A new run folder with its resolved config and its splits. Raises RunError."""

    def fill(folder: Path) -> None:
        write_csv(folder / SPLITS, SPLIT_COLUMNS, split_rows(plan.table, plan.assignment))
        if plan.preflight is not None:
            add_bad_images(folder, plan.preflight.unreadable)
            write_json(folder / PREFLIGHT, plan.preflight)
        write_text(folder / CONFIG, dump_yaml(plan.config))

    runtime = plan.config.runtime
    return create_run_folder(
        runtime.output, runtime.experiment, plan.table.name, plan.config.model.name, fill
    )


def reopen_run(run: Path, changes: ResumeConfig) -> Plan:
    """The plan of a run that was begun before, on the splits it was begun with.

    Raises RunError, DataError or CheckpointError when the run cannot go on as it was.
    """
    config = read_run_config(run)
    for group, names in {
        "runtime": ("device", "workers"),
        "optim": ("epochs",),
        "data": ("batch_size", "on_bad_image"),
    }.items():
        wanted = {n: v for n in names if (v := getattr(changes, n)) is not None}
        updated = getattr(config, group).model_copy(update=wanted)
        config = config.model_copy(update={group: updated})
    try:
        rows = read_csv(run / SPLITS)
    except OSError as error:
        raise RunError(f"{run / SPLITS}: cannot be read ({error.strerror})") from error
    return make_plan(config, rows, strict=not changes.force)


def train_run(
    plan: Plan,
    run: Path,
    observers: Sequence[Observer] = (),
    on_signal: Callable[[int], None] | None = None,
    *,
    first: Assembly | None = None,
    force: bool = False,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Train all folds that are not finished; with k-fold over all folds, sum them up.

    first: the first fold of a new run, where it was assembled already. force: go on from
    checkpoints whose data or config are not the plan's. stop: where the caller asks for a stop.

    Raises InterruptedRunError after SIGINT, SIGTERM, SIGHUP, SIGUSR1 or the caller's request, with
    everything saved, and the RunFailedErrors; whatever was saved before stays good.
    """
    with lock_run(run), stop_on_signals(on_signal, stop) as request:
        try:
            with writing(run, GO_ON):
                write_text(run / CONFIG, dump_yaml(plan.config))
                # it is made again at the end; until then the run is not finished
                (run / SUMMARY).unlink(missing_ok=True)
            trainer = Trainer(plan, run, observers, stop=request, first=first, force=force)
            folds = tuple(trainer.train_fold(fold) for fold in plan.folds)
            summary = summarize(plan, run) if len(plan.folds) > 1 else None
        except InterruptedRunError as error:
            raise InterruptedRunError(
                f"{error}; go on with: imgcls resume {run}", error.exit_code - 128
            ) from error
        except SignalledError as error:
            raise InterruptedRunError(
                f"stopped by a signal before the first step; go on with: imgcls resume {run}",
                error.signal_number,
            ) from None
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"stopped at once; the last checkpoint is good; go on with: imgcls resume {run}"
            ) from None
        except OSError as error:
            what = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
            raise RunFailedError(
                f"the system refused what training needs ({what}); the checkpoints so far are "
                f"intact; go on with: imgcls resume {run}"
            ) from error
    return TrainResult(
        run, plan.config.model.name, plan.class_names, folds, summary, count_bad_images(run)
    )


class Trainer:
    """Trains the folds of one run, each from wherever its checkpoints say it is.

    From Python: `Trainer.begin(TrainConfig(...)).train_fold(0)`.
    """

    def __init__(
        self,
        plan: Plan,
        run: Path,
        observers: Sequence[Observer] = (),
        *,
        stop: StopRequest | None = None,
        first: Assembly | None = None,
        force: bool = False,
    ) -> None:
        self.plan = plan
        self.run = run
        self._emit = broadcast(observers)
        self._stop = StopRequest() if stop is None else stop
        self._force = force
        self._assembly = first
        self._store = FeatureStore(plan) if first is None else first.store
        # no bound method: a trainer in a circle would keep its loader processes until Python
        # collects it, in an order in which each of them is waited for in vain, five seconds long
        self._store.on_batch = partial(_features_done, self._emit, self._stop)

    @classmethod
    def begin(cls, config: TrainConfig, observers: Sequence[Observer] = ()) -> Trainer:
        """A trainer with a new run folder for this config."""
        plan = fit_to_time(make_plan(config))
        return cls(plan, start_run(plan), observers)

    def train_fold(self, fold: int = 0) -> FoldResult:
        """Train a fold to its end and return where it lies and how its best epoch scored."""
        start_s = time.monotonic()
        folder = fold_folder(self.run, fold)
        checkpoints = folder / "checkpoints"
        with writing(checkpoints):
            checkpoints.mkdir(parents=True, exist_ok=True)
        sound = find_sound(checkpoints)
        saved, best = sound.last, sound.best
        if saved is None and sound.problems:
            raise CheckpointError(f"no checkpoint of fold {fold} is sound: {sound.problems[0]}")
        assembly = self._assembly
        if assembly is None or assembly.fold != fold or assembly.parts.progress.step:
            assembly = assemble(self.plan, fold, load_weights=saved is None, store=self._store)
        parts = assembly.parts
        state = parts.train_state()
        if saved is not None:
            restore(self.plan, fold, parts, saved, force=self._force)
            with writing(checkpoints, GO_ON):
                best = settle(checkpoints, best, saved.folder)
            if best is None and parts.tracker.best_value is not None:
                # one that is damaged must not keep a later epoch from being the best
                parts.tracker.load_state_dict(MetricTracker(parts.tracker.metric).state_dict())
            self._emit(Resumed(saved.folder, sound.problems))
        checkpointer = Checkpointer(
            checkpoints,
            policy=self.plan.config.checkpoint,
            state=state,
            card=assembly.card,
            facts=self._facts(fold),
            emit=self._emit,
            best=best,
        )
        self._assembly = assembly
        assembly.bad_images.on_new = partial(_image_skipped, self._emit)
        settings = FitSettings(
            fold=fold,
            folds=self.plan.folds,
            folder=folder,
            epochs=self.plan.epochs,
            score_first=self.plan.recipe.fits_head,
            patience=self.plan.config.early_stopping.patience,
            seed=self.plan.config.runtime.seed,
        )
        try:
            if saved is None and self.plan.recipe.fits_head:
                with self._stop.at_once():
                    fit_head(self.plan, assembly, self._emit)
            fit(parts, settings, checkpointer, self._emit, self._stop)
        except torch.OutOfMemoryError as error:
            raise DeviceMemoryError(self._memory_advice()) from error
        finally:
            checkpointer.close()
            add_bad_images(
                self.run,
                [AuditPicture(b.key, b.label, note=b.reason) for b in assembly.bad_images.met],
            )
        return self._result(fold, folder, parts.progress.stopped_early, start_s)

    def validate_epoch(self) -> dict[str, float | None]:
        """The `val_` metrics of the fold trained last, with its weights as they are now."""
        if self._assembly is None:
            raise RunError("validate_epoch: train a fold first")
        return validate_epoch(self._assembly.parts)

    def _facts(self, fold: int) -> dict[str, object]:
        imbalance = self.plan.recipe.imbalance
        prior = stated_prior(imbalance, self.plan.train_counts(fold))
        return {
            "fold": fold,
            "model_name": self.plan.config.model.name,
            "class_names": list(self.plan.class_names),
            "val_pictures": len(self.plan.assignment.indices("val", fold)),
            "prior": {"imbalance": imbalance, "shares": prior.tolist()},
            "config": self.plan.config.model_dump(mode="json"),
            "data_fingerprint": self.plan.table.fingerprint(),
            "splitter": self.plan.assignment.splitter,
            "versions": versions(),
        }

    def _result(self, fold: int, folder: Path, early: bool, start_s: float) -> FoldResult:
        checkpoints = folder / "checkpoints"
        best, last = best_of(checkpoints), last_of(checkpoints)
        if best is None or last is None:
            raise OutputError(
                f"{checkpoints}: there is no best checkpoint: no epoch had a usable "
                f"{self.plan.recipe.monitor}, or the one that had is damaged"
            )
        facts = read_sidecar(best)["facts"]
        return FoldResult(
            fold=fold,
            folder=folder,
            best_checkpoint=checkpoints / BEST,
            last_checkpoint=checkpoints / LAST,
            best_epoch=facts["epoch"],
            epochs_run=read_sidecar(last)["facts"]["epoch"],
            monitor=self.plan.recipe.monitor,
            # earlier versions counted the epochs of these from 0
            best_metrics={**facts["metrics"], "epoch": facts["epoch"]},
            stopped_early=early,
            elapsed_s=time.monotonic() - start_s,
        )

    def _memory_advice(self) -> str:
        batch_size, grad_accum = self.plan.pace.batch_size, self.plan.config.optim.grad_accum
        device = self.plan.compute.device
        if batch_size == 1:
            return f"{device} is out of memory; try a smaller --model or --img-size"
        return (
            f"{device} is out of memory at --batch-size {batch_size}; the same training with "
            f"less: --batch-size {-(-batch_size // 2)} --grad-accum-steps "
            f"{grad_accum * 2}"
        )


def _features_done(emit: Observer, stop: StopRequest, done: int, total: int) -> None:
    emit(FeaturesDone(done, total))
    if stop:
        raise InterruptedRunError(
            "stopped by a signal before the first epoch", stop.signal_number or 2
        )


def _image_skipped(emit: Observer, bad: BadImage) -> None:
    emit(ImageSkipped(bad.location, bad.reason))
