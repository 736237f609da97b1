"""Put a fold back to where a checkpoint left it, on the terms it was begun with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from imgcls.data.split import split_rows
from imgcls.engine.checkpoint import Checkpoint, load_weights, read_state
from imgcls.engine.fit import Parts
from imgcls.errors import CheckpointError
from imgcls.jobs.plan import Plan
from imgcls.jobs.runs import SPLITS
from imgcls.jobs.splits import differing

# what may change between two sittings without breaking the run
_FREE = (
    "checkpoint.",
    "data.source",
    "data.batch_size",
    "data.on_bad_image",
    "data.cache_limit",
    "data.preflight",
    # how rows are found; which they are, the fingerprint and splits.csv say
    "reading.",
    "early_stopping.patience",
    "optim.epochs",
    "runtime.device",
    "runtime.workers",
    "runtime.output",
    "runtime.experiment",
    "data.fold",
)


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
        _check_terms(plan, checkpoint)
    load_weights(state.weights, checkpoint, plan.compute.device)
    try:
        state.load_state_dict(read_state(checkpoint))
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
    done = parts.progress.epoch >= plan.epochs
    parts.progress.stopped_early = parts.progress.stopped_early and not done
    parts.progress.finished = parts.progress.stopped_early or done


def _check_terms(plan: Plan, checkpoint: Checkpoint) -> None:
    facts = checkpoint.facts
    edited = differing(split_rows(plan.table, plan.assignment), facts.get("splits"))
    if edited is not None:
        raise CheckpointError(
            f"{SPLITS} is not the one that {checkpoint.folder} was trained by: {edited}; put it "
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
                f"{checkpoint.folder}: made with {path} = {was!r}, the run now says {value!r}; "
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
