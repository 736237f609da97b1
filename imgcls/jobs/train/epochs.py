"""Which run goes on, and to how many epochs. Loads no torch."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from imgcls.config.run import TrainConfig
from imgcls.errors import ConfigError, ImgclsError, RunError
from imgcls.storage.ensembles import (
    ensemble_of,
    is_ensemble,
    is_whole,
    member_runs,
    newest_first,
)
from imgcls.storage.lock import is_locked
from imgcls.storage.pointers import (
    CHECKPOINTS,
    find_checkpoint,
    is_same,
    last_of,
    restore_pointers,
    sidecar_of_last,
)
from imgcls.storage.runs import (
    fold_folder,
    is_finished,
    planned_folds,
    read_run_config,
    run_around,
)


@dataclass(frozen=True)
class Resumable:
    """The run to go on with, None when there is none.

    beyond: the one that it would be, had it not more epochs behind it than are asked for.
    """

    run: Path | None
    busy: tuple[Path, ...] = ()  # that are being trained
    beyond: Path | None = None
    unreadable: tuple[str, ...] = ()  # why others were passed over


def find_resumable(run: Path | None, output: Path, *, extend: bool) -> Resumable:
    """The run to go on with: the one named, or the newest unfinished one that nobody is training.

    extend: a finished run is one to go on with too. Raises RunError when the named folder is no
    run, or a checkpoint that is not its fold's last.
    """
    return _newest(output, extend=extend) if run is None else _named(run, extend=extend)


def _newest(output: Path, *, extend: bool) -> Resumable:
    busy: list[Path] = []
    unreadable: list[str] = []
    for candidate in newest_first(output):
        try:
            if not _has_more(candidate, extend=extend):
                continue
            locked = _is_locked(candidate)
        except (ImgclsError, OSError) as error:
            unreadable.append(str(error))
            continue
        if not locked:
            return Resumable(candidate, tuple(busy), unreadable=tuple(unreadable))
        busy.append(candidate)
    return Resumable(None, tuple(busy), unreadable=tuple(unreadable))


def _has_more(candidate: Path, *, extend: bool) -> bool:
    """Whether there is something to train of a run or an ensemble."""
    if is_ensemble(candidate):
        return not (extend or is_whole(candidate))  # one run of it can be trained longer
    return extend or not _is_done(candidate)


def _named(run: Path, *, extend: bool) -> Resumable:
    if not run.is_dir() and run.parent.name != CHECKPOINTS:
        raise RunError(f"{run}: no such folder")
    if is_ensemble(run):
        if extend:
            raise ConfigError(
                f"--epochs: {run} is an ensemble of several runs; name the one to train longer"
            )
        return Resumable(None if is_whole(run) else run)
    named = run
    run = run_around(run) or run
    config = read_run_config(run)
    if named.parent.name == CHECKPOINTS:
        _require_last(named, config)
    if extend:
        return Resumable(run)
    whole = ensemble_of(run)  # its other runs and their average are to come
    if whole is not None and not is_whole(whole):
        return Resumable(whole)
    return Resumable(None if _is_done(run) else run)


def _is_locked(run: Path) -> bool:
    return any(map(is_locked, member_runs(run) if is_ensemble(run) else [run]))


def _is_done(run: Path) -> bool:
    """True when the run is finished; its links, which a kill at the end left unset, are set."""
    if not is_finished(run):
        return False
    if not is_locked(run):
        for fold in run.glob("fold_*"):
            with contextlib.suppress(OSError):  # they are for people; commands do without
                restore_pointers(fold / CHECKPOINTS)
    return True


def _require_last(path: Path, config: TrainConfig) -> None:
    checkpoint, last = find_checkpoint(path), last_of(path.parent)
    if last is not None and not is_same(checkpoint, last):
        raise RunError(
            f"{path}: resume goes on from the last checkpoint, {last.name}, not from an earlier "
            "one; leave the checkpoint out, or start another training from it with "
            f"`imgcls train {shlex.quote(config.data.source)} --weights {shlex.quote(str(path))}`"
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
