"""One fold of a run: from its checkpoints, or from the beginning, to its end."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from imgcls.config.load import dump_yaml
from imgcls.config.run import TrainConfig
from imgcls.data.loading.bad_images import BadImage
from imgcls.data.splits.assign import split_rows
from imgcls.engine.checkpoint.checkpointer import Checkpointer, find_sound, go_on
from imgcls.engine.device.memory import is_out_of_memory
from imgcls.engine.device.runtime import release_freed_memory, versions
from imgcls.engine.training.events import (
    FeaturesDone,
    HeadPassDone,
    ImageSkipped,
    Observer,
    Resumed,
)
from imgcls.engine.training.fit import fit
from imgcls.engine.training.interrupt import StopRequest
from imgcls.engine.training.parts import FitSettings, Parts
from imgcls.engine.training.selection.trackers import MetricTracker
from imgcls.engine.training.trainable import is_too_few
from imgcls.errors import (
    BadImageError,
    CheckpointError,
    DeviceMemoryError,
    InterruptedRunError,
    OutputError,
)
from imgcls.jobs.plan.pace import Pace
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.train.assemble import Assembly, assemble
from imgcls.jobs.train.caches import RunCaches
from imgcls.jobs.train.head.fit import fit_head
from imgcls.jobs.train.restore import inexact, machine, restore
from imgcls.jobs.train.several.in_parallel import trained_together
from imgcls.models.head import ClassifierAlone
from imgcls.results.checkpoint import Sidecar, TrainedPrior
from imgcls.results.training import FoldResult
from imgcls.storage.durable import remove_parts_in, write_text, writing
from imgcls.storage.model_folder import read_sidecar
from imgcls.storage.pointers import BEST, CHECKPOINTS, LAST, best_of, last_of, settle
from imgcls.storage.runs import CONFIG, SUMMARY, fold_folder
from imgcls.storage.splits import recorded_splits

# asked for at once, this is no matter of the batch
_TOO_MUCH_BYTES = 16 * 2**30


def train_fold(
    plan: Plan,
    run: Path,
    fold: int,
    assembly: Assembly | None,
    *,
    caches: RunCaches,
    emit: Observer,
    stop: StopRequest,
    force: bool,
    in_charge: bool = True,
) -> tuple[FoldResult, Assembly]:
    """Train a fold to its end: where it lies and how its best epoch scored, and its parts.

    assembly: parts that were built before, used where they are this fold's and not yet trained.
    The caller holds the run, which stays as it was where a request is refused. in_charge: False
    where another process trains other folds of the run, and writes what is the run's. Raises as
    `imgcls.jobs.train.trainer.train_run`.
    """
    start_s = time.monotonic()
    config, data, recipe, compute = plan.config, plan.data, plan.recipe, plan.compute
    folder = fold_folder(run, fold)
    checkpoints = folder / CHECKPOINTS
    sound = find_sound(checkpoints)
    saved = sound.last
    if saved is None and sound.problems:
        raise CheckpointError(f"no checkpoint of fold {fold} is sound: {sound.problems[0]}")
    if assembly is None or assembly.fold != fold or assembly.parts.progress.step:
        assembly = assemble(plan, fold, load_weights=saved is None, caches=caches)
    parts = assembly.parts
    if saved is not None:
        restore(plan, fold, parts, saved, force=force)
    if in_charge:
        _keep_config(config, run)
    with writing(checkpoints):
        checkpoints.mkdir(parents=True, exist_ok=True)
        remove_parts_in(folder)  # there is no other writer of it
    best = None
    if saved is not None:
        best = _settled_best(run, checkpoints, sound.best, saved.folder, parts.tracker)
        not_as_it_was = inexact(fold, compute.device, config, saved)
        emit(Resumed(saved.folder, sound.problems, not_as_it_was))
    checkpointer = Checkpointer(
        checkpoints,
        policy=config.checkpoint,
        state=parts.train_state(),
        card=assembly.card,
        sidecar=sidecar_of_fold(plan, fold),
        emit=emit,
        best=best,
    )
    # no bound method: parts in a circle would keep their loader processes until Python collects
    # them, in an order in which each of them is waited for in vain, five seconds long
    assembly.bad_images.tell(partial(_image_skipped, emit))
    features_of = partial(
        caches.features.of,
        preprocessing=assembly.preprocessing,
        bad_images=assembly.bad_images,
        run=run if in_charge else None,
        on_batch=partial(_on_the_way, FeaturesDone, emit, stop),
    )
    settings = FitSettings(
        fold=fold,
        folds=data.folds,
        folder=folder,
        epochs=plan.epochs,
        score_first=recipe.fits_head,
        patience=config.early_stopping.patience,
        seed=config.runtime.seed,
    )
    with checkpointer, _advising(plan.pace, config.optim.opt, compute.device):
        if saved is None and recipe.fits_head:
            with stop.at_once():
                fit_head(
                    data,
                    fold,
                    parts.learner,
                    features_of,
                    emit,
                    on_pass=partial(_on_the_way, HeadPassDone, emit, stop),
                    imbalance=recipe.imbalance,
                    seed=config.runtime.seed,
                    run=run,
                )
            # its large blocks are of other sizes than those of training, which would not fill them
            release_freed_memory(compute.device)
        elif isinstance(parts.learner.model, ClassifierAlone) and not parts.progress.finished:
            features_of(parts.learner.model)
        with trained_together(plan, assembly, settings, checkpointer, stop) as (shared, wish):
            fit(shared, settings, checkpointer, emit, wish)
    return _result(settings, parts, len(data.rows("val", fold)), start_s), assembly


def _settled_best(
    run: Path, checkpoints: Path, best: Path | None, last: Path, tracker: MetricTracker
) -> Path | None:
    """The best checkpoint of a fold that goes on, in its place; None where none is sound."""
    with writing(checkpoints, go_on(run)):
        best = settle(checkpoints, best, last)
    if best is None and tracker.best_value is not None:
        # one that is damaged must not keep a later epoch from being the best
        tracker.load_state_dict(MetricTracker(tracker.metric).state_dict())
    return best


def _keep_config(config: TrainConfig, run: Path) -> None:
    """Write what the run is trained by from here on; nothing refuses to go on any more."""
    with writing(run, go_on(run)):
        write_text(run / CONFIG, dump_yaml(config))
        # it is made again at the end; until then the run is not finished
        (run / SUMMARY).unlink(missing_ok=True)
        remove_parts_in(run)  # there is no other writer of it


@contextlib.contextmanager
def _advising(pace: Pace, opt: str, device: torch.device) -> Iterator[None]:
    """Say what to do where memory or the pictures of a batch do not suffice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise DeviceMemoryError(_memory_advice(pace, opt, device, error)) from error
    except ValueError as error:
        if not is_too_few(error):
            raise
        raise BadImageError(
            "pictures that cannot be read left a batch of one, on which a batch norm cannot be "
            "trained; give a larger --batch-size, or repair the pictures"
        ) from error


def sidecar_of_fold(plan: Plan, fold: int) -> Sidecar:
    """What the checkpoints of a fold say of themselves, but for what the checkpointer adds."""
    data, method = plan.data, plan.recipe.imbalance_method
    prior = method.stated_prior(data.class_counts("train", fold))
    return Sidecar(
        fold=fold,
        model_name=plan.config.model.name,
        class_names=data.class_names,
        val_pictures=len(data.rows("val", fold)),
        prior=TrainedPrior(method.name, tuple(prior.tolist())),
        config=plan.config.model_dump(mode="json"),
        starting_weights=plan.model.starting_weights,
        data_fingerprint=data.table.fingerprint(),
        splits=recorded_splits(split_rows(data.table, data.assignment)),
        splitter=data.assignment.splitter,
        versions=versions(),
        machine=machine(plan.compute.device),
    )


def _result(settings: FitSettings, parts: Parts, val_pictures: int, start_s: float) -> FoldResult:
    checkpoints = settings.folder / CHECKPOINTS
    best, last = best_of(checkpoints), last_of(checkpoints)
    if best is None or last is None:
        raise OutputError(
            f"{checkpoints}: there is no best checkpoint: no epoch had a usable "
            f"{parts.tracker.metric}, or the one that had is damaged"
        )
    at_best = read_sidecar(best)
    best_epoch, metrics = _epoch_of(best, at_best), at_best.metrics or {}
    return FoldResult(
        fold=settings.fold,
        folder=settings.folder,
        best_checkpoint=checkpoints / BEST,
        last_checkpoint=checkpoints / LAST,
        best_epoch=best_epoch,
        epochs_run=_epoch_of(last, read_sidecar(last)),
        monitor=parts.tracker.metric,
        # earlier versions counted the epochs of these from 0
        best_metrics={**metrics, "epoch": best_epoch},
        val_pictures=val_pictures,
        stopped_early=parts.progress.stopped_early,
        elapsed_s=time.monotonic() - start_s,
        share=at_best.share,
    )


def _epoch_of(folder: Path, sidecar: Sidecar) -> int:
    if sidecar.epoch is None:
        raise CheckpointError(f"{folder}: does not say its epoch; use another checkpoint")
    return sidecar.epoch


def _memory_advice(pace: Pace, opt: str, device: torch.device, error: BaseException) -> str:
    batch_size, grad_accum = pace.batch_size, pace.grad_accum
    asked = re.search(r"allocate (\d+) bytes", str(error))
    if asked is not None and int(asked[1]) > _TOO_MUCH_BYTES:
        return (
            f"{device} is out of memory: {int(asked[1]) / 2**30:,.0f} GiB were asked for at once; "
            f"train with a smaller --model, or another --opt if {opt} keeps more than its size"
        )
    if batch_size == 1:
        return f"{device} is out of memory; train with a smaller --model or --img-size"
    return (
        f"{device} is out of memory at --batch-size {batch_size}; the same training with "
        f"less: imgcls train --batch-size {-(-batch_size // 2)} --grad-accum-steps "
        f"{grad_accum * 2}"
    )


def _on_the_way(
    event: type[FeaturesDone | HeadPassDone],
    emit: Observer,
    stop: StopRequest,
    done: int,
    total: int,
) -> None:
    """Tell how much of what comes before the first epoch is done; a wish to stop ends it."""
    emit(event(done, total))
    if stop:
        raise InterruptedRunError(
            f"stopped {stop.reason or 'by a signal'} before the first epoch",
            stop.signal_number or 2,
        )


def _image_skipped(emit: Observer, bad: BadImage) -> None:
    emit(ImageSkipped(bad.key, bad.label, bad.location, bad.reason))
