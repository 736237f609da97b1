"""Which checkpoints of a fold are needed: to evaluate, to resume, and for an ensemble of folds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from imgcls.errors import CheckpointError
from imgcls.storage.durable import pointed_at
from imgcls.storage.model_folder import STATE, read_manifest, verify
from imgcls.storage.pointers import BEST, LAST, best_of, last_of, newest_first, says_best


class Checks:
    """Whether checkpoints are sound; each is read once, since none changes once it is there."""

    def __init__(self) -> None:
        self._sound: dict[tuple[Path, int], bool] = {}

    def is_sound(self, checkpoint: Path) -> bool:
        """True when all its files are as they were written, its training state too."""
        try:
            key = (checkpoint, checkpoint.stat().st_ino)
        except OSError:
            return False
        if key not in self._sound:
            self._sound[key] = _is_sound(checkpoint)
        return self._sound[key]


def _is_sound(checkpoint: Path) -> bool:
    try:
        manifest = read_manifest(checkpoint)
        for name, seal in manifest.seals.items():
            verify(checkpoint / name, seal)
    except (CheckpointError, OSError):
        return False
    return manifest.state is not None and STATE in manifest.seals


def unneeded(folder: Path, checks: Checks) -> list[Path]:
    """The checkpoints in a `checkpoints` folder that nothing needs, the oldest first.

    Needed are what `best` and `last` lead to, what lies there says to be best and last, and, where
    one of these is damaged, what a resumption would go on from instead. Where no checkpoint is
    sound, all are.
    """
    found = newest_first(folder)
    kept = {pointed_at(folder / BEST), pointed_at(folder / LAST), best_of(folder), last_of(folder)}
    old = [path for path in found if path not in kept and path.name not in (BEST, LAST)]
    if old:
        sound = set(_sound(folder, found, checks))
        old = [path for path in old if path not in sound] if sound else []
    return old[::-1]


def _sound(folder: Path, found: list[Path], checks: Checks) -> Iterator[Path]:
    """The newest sound checkpoint, and the best until then, as a resumption finds them."""
    named = best_of(folder)
    last = next((path for path in found if checks.is_sound(path)), None)
    if last is None:
        return
    yield last
    until = found[found.index(last) :]
    is_best = (path for path in until if path == named or says_best(path))
    best = next((path for path in is_best if checks.is_sound(path)), None)
    if best is not None:
        yield best
