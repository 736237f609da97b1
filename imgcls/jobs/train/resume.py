"""Go on with a run from where its checkpoints say it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from imgcls.config.run import ResumeConfig
from imgcls.engine.training.events import Observer
from imgcls.engine.training.interrupt import StopRequest
from imgcls.errors import ConfigError
from imgcls.jobs.plan.plan import Plan, make_plan
from imgcls.jobs.plan.tables import with_data_at
from imgcls.jobs.train.epochs import is_trained_beyond
from imgcls.jobs.train.several.in_parallel import require_divisible, require_shardable
from imgcls.jobs.train.trainer import train_run
from imgcls.results.training import TrainResult
from imgcls.storage.runs import read_run_config, sidecar_of_run
from imgcls.storage.splits import checked_at_s, read_splits


def resume_run(
    run: Path,
    changes: ResumeConfig,
    observers: Sequence[Observer] = (),
    *,
    on_reopened: Callable[[Plan, Path], None] = lambda _plan, _run: None,
    on_signal: Callable[[int], None] | None = None,
    stop: StopRequest | None = None,
) -> TrainResult:
    """Go on with this run: how it scored; a finished one is only summed up again.

    on_reopened is told before anything is trained. Raises as `reopen_run` and `train_run`.
    """
    plan = reopen_run(run, changes)
    require_divisible(plan)
    on_reopened(plan, run)
    return train_run(plan, run, observers, on_signal, force=changes.force, stop=stop)


def reopen_run(run: Path, changes: ResumeConfig) -> Plan:
    """The plan of a run that was begun before, on the splits it was begun with.

    Raises RunError, DataError or CheckpointError when the run cannot go on as it was, ConfigError
    when it has more epochs than it shall have.
    """
    config = read_run_config(run)
    if changes.epochs is not None and is_trained_beyond(run, config, changes.epochs):
        raise ConfigError(f"--epochs {changes.epochs}: {run} has more epochs trained already")
    for group, names in {
        "runtime": ("device", "devices", "shard", "workers", "amp", "log"),
        "optim": ("epochs",),
        "data": ("batch_size", "on_bad_image", "cache"),
    }.items():
        wanted = {n: v for n in names if (v := getattr(changes, n)) is not None}
        updated = getattr(config, group).model_copy(update=wanted)
        config = config.model_copy(update={group: updated})
    require_shardable(config)
    moved = changes.data is not None or changes.root is not None
    sidecar = sidecar_of_run(run)
    return make_plan(
        with_data_at(config, changes.data, changes.root) if moved else config,
        read_splits(run),
        strict=not changes.force,
        since_s=None if moved else checked_at_s(run),
        class_names=sidecar.class_names if moved and sidecar is not None else None,
        starting_weights=None if sidecar is None else sidecar.starting_weights,
    )
