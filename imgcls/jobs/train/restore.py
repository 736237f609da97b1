"""Put a fold back to where a checkpoint left it, on the terms it was begun with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from imgcls.data.splits.assign import split_rows
from imgcls.engine.checkpoint.folder import Checkpoint, load_weights, read_state
from imgcls.engine.device.runtime import device_label, versions
from imgcls.engine.training.fit import Parts
from imgcls.errors import CheckpointError
from imgcls.jobs.plan.plan import Plan
from imgcls.storage.pointers import CHECKPOINTS, facts_of, last_of
from imgcls.storage.runs import SPLITS, fold_folder
from imgcls.storage.splits import differing

# what may change between two sittings without breaking the run
_FREE = (
    "checkpoint.",
    "data.source",
    "data.batch_size",
    "data.on_bad_image",
    "data.cache",
    "data.cache_limit",
    "data.preflight",
    # how rows are found; which they are, the fingerprint and splits.csv say
    "reading.",
    "early_stopping.patience",
    "optim.epochs",
    "runtime.amp",
    "runtime.device",
    "runtime.workers",
    "runtime.output",
    "runtime.experiment",
    "data.fold",
)

# the packages whose versions decide over bits
_OF_RESULTS = ("torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg")


def restore(
    plan: Plan, fold: int, parts: Parts, checkpoint: Checkpoint, *, force: bool = False
) -> None:
    """Load a verified checkpoint into the fold's parts.

    Another number of epochs opens a finished fold again, another batch size moves the position
    within the epoch and the schedule in proportion. Raises CheckpointError when the checkpoint was
    made on other terms (unless `force`) or its state does not fit.
    """
    state = parts.train_state()
    if not force:
        check_terms(plan, fold, checkpoint.folder, checkpoint.facts)
    load_weights(state.weights, checkpoint, plan.compute.device)
    try:
        saved = read_state(checkpoint)
        if checkpoint.facts["config"]["runtime"]["amp"] != plan.config.runtime.amp:
            # a scale of the loss is of fp16 alone
            saved["scaler"] = parts.learner.scaler.state_dict()
        state.load_state_dict(saved)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{checkpoint.folder}: its training state does not fit: {reason}"
        ) from error
    before = checkpoint.facts["config"]
    _move_position(plan, fold, parts, before)
    if plan.pace.epochs != before["optim"]["epochs"]:
        parts.progress.stopped_early = False
        parts.tracker.stale_epochs = 0
    # a fitted classifier that was not scored yet has no row: epoch 0 is still to come
    if parts.history.rows:
        parts.progress.decide(plan.epochs, out_of_patience=parts.progress.stopped_early)


def machine(plan: Plan) -> dict[str, Any]:
    """What, beyond the config, the bits of a training depend on."""
    device = plan.compute.device
    # how a sum is divided among threads decides how it is rounded
    threads = torch.get_num_threads() if device.type == "cpu" else None
    return {"device": device_label(device).partition(",")[0], "threads": threads}


def inexact(plan: Plan, fold: int, checkpoint: Checkpoint) -> tuple[str, ...]:
    """What is not as it was when the checkpoint was saved, in words; () for an exact resumption."""
    before = checkpoint.facts
    was = {**before.get("machine", {}), "amp": before["config"]["runtime"]["amp"]}
    now = {**machine(plan), "amp": plan.config.runtime.amp}
    was.update((name, before.get("versions", {}).get(name)) for name in _OF_RESULTS)
    now.update((name, versions()[name]) for name in _OF_RESULTS)
    found = [
        f"{name} {now[name]}, before {was[name]}"
        for name in now
        if was.get(name) is not None and now[name] is not None and was[name] != now[name]
    ]
    if before.get("fold", fold) != fold:
        found.append(f"a checkpoint of fold {before['fold']}")
    return tuple(found)


def require_terms(plan: Plan, run: Path) -> None:
    """Raise CheckpointError where the newest checkpoint of a fold was made on other terms."""
    for fold in plan.folds:
        last = last_of(fold_folder(run, fold) / CHECKPOINTS)
        facts = None if last is None else facts_of(last)
        if last is not None and facts is not None:
            check_terms(plan, fold, last, facts)


def check_terms(plan: Plan, fold: int, folder: Path, facts: Mapping[str, Any]) -> None:
    """Raise CheckpointError where the plan is not what a fold's checkpoint was made on.

    facts: of the checkpoint in `folder`.
    """
    if facts.get("fold", fold) != fold:
        raise CheckpointError(
            f"{folder}: was trained on fold {facts['fold']}, not on fold {fold}; put "
            "the fold's own back, or go on all the same with --force"
        )
    edited = differing(split_rows(plan.table, plan.assignment), facts.get("splits"))
    if edited is not None:
        raise CheckpointError(
            f"{SPLITS} is not the one that {folder} was trained by: {edited}; put it "
            "back, or go on all the same with --force"
        )
    now = {
        "class_names": list(plan.class_names),
        "data_fingerprint": plan.table.fingerprint(),
        **plan.config.model_dump(mode="json"),
    }
    before = {
        "class_names": facts["class_names"],
        "data_fingerprint": facts["data_fingerprint"],
        **facts["config"],
    }
    for path, was, value in changes(before, now):
        if not path.startswith(_FREE):
            raise CheckpointError(
                f"{folder}: made with {path} = {was!r}, the run now says {value!r}; "
                "put it back, or go on all the same with --force"
            )


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


def _move_position(plan: Plan, fold: int, parts: Parts, before: Mapping[str, Any]) -> None:
    batch_size = before["data"]["batch_size"]
    if plan.pace.batch_size == batch_size:
        return
    progress = parts.progress
    pictures = len(plan.assignment.indices("train", fold))
    steps_before = -(-pictures // (batch_size * before["optim"]["grad_accum"]))
    steps_now = plan.steps_per_epoch(fold)
    progress.step_in_epoch = round(progress.step_in_epoch / steps_before * steps_now)
    updates = progress.epoch * steps_now + progress.step_in_epoch
    parts.learner.schedule.load_state_dict({"updates": updates})
