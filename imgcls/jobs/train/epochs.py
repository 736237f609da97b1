"""Which run goes on when it shall have so many epochs. Loads no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from imgcls.config.run import TrainConfig
from imgcls.errors import ConfigError
from imgcls.storage.pointers import CHECKPOINTS, sidecar_of_last
from imgcls.storage.runs import (
    Resumable,
    find_resumable,
    fold_folder,
    planned_folds,
    read_run_config,
)


def find_trainable(run: Path | None, output: Path, epochs: int | None) -> Resumable:
    """The run to go on with, as `find_resumable`; with `epochs`, to so many, also a finished one.

    Raises as `find_resumable` and `is_trained_beyond`.
    """
    found = find_resumable(run, output, extend=epochs is not None)
    if found.run is None or epochs is None:
        return found
    if is_trained_beyond(found.run, read_run_config(found.run), epochs):
        return replace(found, run=None, beyond=found.run)
    return found


def is_trained_beyond(run: Path, config: TrainConfig, epochs: int) -> bool:
    """True when each of a run's folds has more epochs behind it than so many.

    Raises ConfigError when only some have: the others cannot be trained to as many as those.
    """
    trained = {fold: _epochs_trained(run, fold) for fold in planned_folds(config)}
    furthest = max(trained, key=trained.__getitem__)
    most, least = trained[furthest], min(trained.values())
    if most > epochs >= least:
        raise ConfigError(
            f"--epochs {epochs}: {most} are trained already of fold {furthest} in {run}; give as "
            "many or more, or train a new run"
        )
    return least > epochs


def _epochs_trained(run: Path, fold: int) -> int:
    """The epochs that a fold has behind it, by its last checkpoint."""
    sidecar = sidecar_of_last(fold_folder(run, fold) / CHECKPOINTS)
    return (sidecar and sidecar.epoch) or 0
