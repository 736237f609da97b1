"""Put a fold back to where a checkpoint left it, with the data and settings it began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from imgcls.config.run import TrainConfig
from imgcls.data.splits.assign import split_rows
from imgcls.engine.checkpoint.folder import Checkpoint, load_weights, read_state
from imgcls.engine.device.runtime import device_label, versions
from imgcls.engine.device.world import world
from imgcls.engine.training.parts import Parts
from imgcls.errors import CheckpointError, reason_of
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.plan.pace import Pace
from imgcls.jobs.plan.plan import Plan
from imgcls.results.checkpoint import Sidecar
from imgcls.storage.pointers import CHECKPOINTS, last_of, sidecar_of
from imgcls.storage.runs import SPLITS, fold_folder
from imgcls.storage.splits import differing

# what may change between two sittings without breaking the run: settings by their whole names, and
# groups, with a dot behind them
_FREE = (
    "checkpoint.",
    "data.source",
    "data.fold",
    "data.batch_size",
    "data.on_bad_image",
    "data.cache",
    "data.cache_limit",
    "data.preflight",
    # how rows are found; which they are, the fingerprint and splits.csv say. What a sample of them
    # is worth, bit_depth, is not free
    "reading.layout",
    "reading.path_col",
    "reading.label_col",
    "reading.split_col",
    "reading.group_col",
    "reading.fold_col",
    "reading.group_regex",
    "reading.root",
    "reading.max_image_pixels",
    "early_stopping.patience",
    "optim.epochs",
    "runtime.amp",
    "runtime.device",
    "runtime.devices",
    "runtime.grad_compression",
    "runtime.shard",
    "runtime.parallel_folds",
    "runtime.workers",
    "runtime.output",
    "runtime.experiment",
    "runtime.log",
)

# the packages whose versions decide over bits
_OF_RESULTS = ("torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg")


def restore(
    plan: Plan, fold: int, parts: Parts, checkpoint: Checkpoint, *, force: bool = False
) -> None:
    """Load a verified checkpoint into the fold's parts.

    Another number of epochs opens a finished fold again, another batch size moves the position
    within the epoch and the schedule in proportion. Raises CheckpointError when the checkpoint was
    made with other data or settings (unless `force`) or its state does not fit.
    """
    if not force:
        require_same(plan.config, plan.data, fold, checkpoint.folder, checkpoint.sidecar)
    before = _config_of(checkpoint.folder, checkpoint.sidecar)
    same_amp = before["runtime"]["amp"] == plan.config.runtime.amp
    device = plan.compute.device
    if plan.config.runtime.shard:
        # all of the optimizer's state may be more than the device has
        device = torch.device("cpu")
        parts.learner.model.to(device)
    _load(parts, checkpoint, device, same_amp=same_amp)
    if plan.pace.batch_size != before["data"]["batch_size"]:
        _move_position(parts, plan.pace, len(plan.data.rows("train", fold)), before)
    progress = parts.progress
    if plan.pace.epochs != before["optim"]["epochs"]:
        progress.stopped_early = False
        parts.tracker.stale_epochs = 0
    # a fitted classifier that was not scored yet has no row: epoch 0 is still to come
    if parts.history.rows:
        progress.decide(plan.epochs, out_of_patience=progress.stopped_early)


def _load(parts: Parts, checkpoint: Checkpoint, device: torch.device, *, same_amp: bool) -> None:
    """Give the parts the weights and states of the checkpoint. Raises CheckpointError."""
    state = parts.train_state()
    load_weights(state.weights, checkpoint, device)
    try:
        saved = read_state(checkpoint)
        if not same_amp:
            # a scale of the loss is of fp16 alone
            saved["scaler"] = parts.learner.scaler.state_dict()
        # earlier versions kept no first weights
        saved.setdefault("interpolation", {"start": {}, "end": {}, "kept": {}})
        state.load_state_dict(saved)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        reason = reason_of(error)
        raise CheckpointError(
            f"{checkpoint.folder}: its training state does not fit: {reason}"
        ) from error


def _move_position(parts: Parts, pace: Pace, pictures: int, before: Mapping[str, Any]) -> None:
    """Go on behind as many pictures of the epoch as before, in updates of another size."""
    progress = parts.progress
    steps_before = -(-pictures // (before["data"]["batch_size"] * before["optim"]["grad_accum"]))
    steps_now = pace.steps_per_epoch(pictures)
    progress.step_in_epoch = round(progress.step_in_epoch / steps_before * steps_now)
    updates = progress.epoch * steps_now + progress.step_in_epoch
    parts.learner.schedule.load_state_dict({"updates": updates})


def machine(device: torch.device) -> dict[str, Any]:
    """What, beyond the config, the bits of a training depend on."""
    # how a sum is divided among threads decides how it is rounded
    threads = torch.get_num_threads() if device.type == "cpu" else None
    return {
        "device": device_label(device).partition(",")[0],
        "threads": threads,
        # in which order their sums are added up decides too
        "processes": world().size,
    }


def inexact(
    fold: int, device: torch.device, config: TrainConfig, checkpoint: Checkpoint
) -> tuple[str, ...]:
    """What is not as it was when a checkpoint was saved, in words; () for an exact resumption."""
    sidecar = checkpoint.sidecar
    before = _config_of(checkpoint.folder, sidecar)
    was = {**(sidecar.machine or {}), "amp": before["runtime"]["amp"]}
    now = {**machine(device), "amp": config.runtime.amp}
    was["batch size"], now["batch size"] = before["data"]["batch_size"], config.data.batch_size
    # training crops come from pictures that a cache keeps small, wherever it lies
    caches = before["data"]["cache"], config.data.cache
    if caches.count("none") == 1:
        was["cache"], now["cache"] = caches
    # in which order sums are added up goes by it too
    was["shard"], now["shard"] = before["runtime"].get("shard", False), config.runtime.shard
    was.update((name, (sidecar.versions or {}).get(name)) for name in _OF_RESULTS)
    now.update((name, versions()[name]) for name in _OF_RESULTS)
    found = [
        f"{name} {now[name]}, before {was[name]}"
        for name in now
        if was.get(name) is not None and now[name] is not None and was[name] != now[name]
    ]
    if sidecar.fold not in (None, fold):
        found.append(f"a checkpoint of fold {sidecar.fold}")
    return tuple(found)


def require_as_begun(config: TrainConfig, data: DataPlan, run: Path) -> None:
    """Raise CheckpointError where a fold's newest checkpoint is of other data or settings."""
    for fold in data.folds:
        last = last_of(fold_folder(run, fold) / CHECKPOINTS)
        sidecar = None if last is None else sidecar_of(last)
        if last is not None and sidecar is not None:
            require_same(config, data, fold, last, sidecar)


def require_same(
    config: TrainConfig, data: DataPlan, fold: int, folder: Path, sidecar: Sidecar
) -> None:
    """Raise CheckpointError where a fold's checkpoint was made with other data or settings.

    sidecar: of the checkpoint in `folder`.
    """
    if sidecar.fold not in (None, fold):
        raise CheckpointError(
            f"{folder}: was trained on fold {sidecar.fold}, not on fold {fold}; put "
            "the fold's own back, or go on all the same with --force"
        )
    edited = differing(split_rows(data.table, data.assignment), sidecar.splits)
    if edited is not None:
        raise CheckpointError(
            f"{SPLITS} is not the one that {folder} was trained by: {edited}; put it "
            "back, or go on all the same with --force"
        )
    now = {
        "class_names": list(data.class_names),
        "data_fingerprint": data.table.fingerprint(),
        **config.model_dump(mode="json"),
    }
    kept = _config_of(folder, sidecar)
    before = {
        "class_names": list(sidecar.class_names),
        "data_fingerprint": sidecar.data_fingerprint,
        **kept,
        # earlier versions knew no depth
        "reading": {"bit_depth": "auto", **kept.get("reading", {})},
    }
    for path, was, value in changes(before, now):
        if not _is_free(path):
            raise CheckpointError(
                f"{folder}: made with {path} = {was!r}, the run now says {value!r}; "
                "put it back, or go on all the same with --force"
            )


def _config_of(folder: Path, sidecar: Sidecar) -> Mapping[str, Any]:
    if sidecar.config is None:
        raise CheckpointError(f"{folder}: does not say how it was trained; use another checkpoint")
    return sidecar.config


def _is_free(path: str) -> bool:
    return any(path.startswith(free) if free.endswith(".") else path == free for free in _FREE)


def changes(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """(dotted path, value before, value now) wherever two trees differ."""
    for name in now.keys() | before.keys():
        was, value = before.get(name), now.get(name)
        if isinstance(was, Mapping) and isinstance(value, Mapping):
            yield from changes(was, value, f"{prefix}{name}.")
        elif was != value:
            yield f"{prefix}{name}", was, value
