"""Which checkpoint of a fold is the best and which the last. Loads no torch.

checkpoints/
  step-00000040/  step-00000080/    each says whether it was the best when it was saved
  best -> step-00000040             replaced atomically; a JSON file where there are no links
  last -> step-00000080

The links are for people and for timm. A kill may come before they are set, and a copy may follow
them (then `best` is a folder), keep their text only, or leave them out: so what lies there decides.
"""

from __future__ import annotations

import itertools
import re
import shlex
from pathlib import Path

from imgcls.config.files import read_bytes
from imgcls.errors import CheckpointError
from imgcls.results.checkpoint import Sidecar
from imgcls.storage.durable import point, pointed_at, remove_folder
from imgcls.storage.model_folder import SIDECAR, is_model_folder, read_sidecar

CHECKPOINTS, BEST, LAST = "checkpoints", "best", "last"
_STEP = re.compile(r"step-([0-9]{1,18})(?:-([0-9]{1,9}))?")
_ASIDE = "set-aside-"


def find_checkpoint(path: Path, fold: int | None = None, which: str = BEST) -> Path:
    """The checkpoint folder that a checkpoint, fold or run folder stands for.

    which: "best" or "last". Raises CheckpointError when there is none, saying what was looked for.
    """
    if is_gone(path):
        raise CheckpointError(f"{path}: no such file or folder")
    pointer = pointed_at(path)
    if pointer is not None:
        return pointer
    if (path / SIDECAR).is_file() or is_model_folder(path):
        return path
    if path.is_file() and path.name not in (BEST, LAST):
        raise CheckpointError(
            f"{path}: is a file, not a checkpoint folder; what another trainer saved becomes one "
            f"by `imgcls import {shlex.quote(str(path))}`, or a start by `imgcls train --weights`"
        )
    if path.name in (BEST, LAST):
        path, which = path.parent, path.name
    folds = sorted(path.glob("fold_*"), key=lambda p: (len(p.name), p.name))
    if folds:
        wanted = path / f"fold_{fold if fold is not None else _only_fold(path, folds)}"
        if not wanted.is_dir():
            raise CheckpointError(
                f"{path}: has no fold {fold}; it has {', '.join(p.name for p in folds)}"
            )
        path = wanted
    folder = path if path.name == CHECKPOINTS else path / CHECKPOINTS
    target = best_of(folder) if which == BEST else last_of(folder)
    if target is None:
        raise CheckpointError(
            f"{path}: no {SIDECAR} and no {which} checkpoint in it; give a checkpoint, fold or "
            f"run folder, or a timm model folder{_if_pictures(path)}"
        )
    return target


def is_gone(path: Path) -> bool:
    """True where no checkpoint, fold or run is: not even a link that a copy has left leading on."""
    return not path.exists() and not (path.name in (BEST, LAST) and path.parent.is_dir())


def best_of(folder: Path) -> Path | None:
    """The best checkpoint so far in a `checkpoints` folder, unverified.

    The newest that says so, unless the pointer names a newer one: that one may be damaged, but
    nothing older may pass for it.
    """
    named = _named(folder / BEST)
    for path in newest_first(folder):
        if path == named or says_best(path):
            return path
    return named


def last_of(folder: Path) -> Path | None:
    """The newest checkpoint in a `checkpoints` folder whose sidecar can be read, unverified."""
    return next((path for path in newest_first(folder) if sidecar_of(path) is not None), None)


def sidecar_of(checkpoint: Path) -> Sidecar | None:
    """What a checkpoint says of itself; None when that cannot be read or is damaged."""
    try:
        return read_sidecar(checkpoint)
    except CheckpointError:
        return None


def sidecar_of_last(folder: Path) -> Sidecar | None:
    """What the newest checkpoint of a `checkpoints` folder says, of those that can be read."""
    return next(filter(None, map(sidecar_of, newest_first(folder))), None)


def says_best(checkpoint: Path) -> bool:
    """True for a checkpoint that was the best when it was saved."""
    sidecar = sidecar_of(checkpoint)
    return sidecar is not None and sidecar.best is True


def _step(copy: Path) -> int | None:
    """The step that a folder without one in its name says it is of."""
    sidecar = sidecar_of(copy)
    return None if sidecar is None else sidecar.step


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a `checkpoints` folder: the highest step, written last, first.

    Folders that a copy made of `best` and `last` come behind their step's own.
    """
    places = [*folder.glob("step-*"), folder / BEST, folder / LAST]
    found = [(order, path) for path in places if (order := _order(path)) is not None]
    return [path for _, path in sorted(found, reverse=True)]


def settle(folder: Path, best: Path | None, last: Path) -> Path | None:
    """Make a `checkpoints` folder as these two, found sound, say; return where the best is then.

    Both get their step's name where they were copies, and pointers that lead to them; what is
    newer than the last is damaged and set aside. Raises OSError when that cannot be written.
    """
    for newer in itertools.takewhile(lambda path: path != last, newest_first(folder)):
        if not _is_copy(newer):
            _set_aside(newer)
    # the best may be the last: a copy is renamed once
    homes = {path: _home(path) for path in dict.fromkeys((best, last)) if path is not None}
    for name, path in ((BEST, best), (LAST, last)):
        pointer = folder / name
        if _is_copy(pointer):
            twins = (p for p in newest_first(folder) if p != pointer and is_same(p, pointer))
            if any(twins):
                remove_folder(pointer)
            else:
                _set_aside(pointer)
        if path is not None and not (pointer.is_symlink() and pointed_at(pointer) == homes[path]):
            point(pointer, homes[path].name)
    return None if best is None else homes[best]


def restore_pointers(folder: Path) -> None:
    """Let `best` and `last` lead to what is best and last in a `checkpoints` folder.

    Raises OSError when that cannot be written.
    """
    for name, target in ((BEST, best_of(folder)), (LAST, last_of(folder))):
        pointer = folder / name
        if target is not None and not _is_copy(pointer) and _named(pointer) != target:
            point(pointer, target.name)


def set_aside(folder: Path) -> list[Path]:
    """The checkpoints that `settle` has set aside."""
    return [path for path in folder.glob(f"{_ASIDE}*") if path.is_dir()]


def is_same(one: Path, other: Path) -> bool:
    """True when two folders hold the same checkpoint, by their sidecars."""
    try:
        return read_bytes(one / SIDECAR) == read_bytes(other / SIDECAR)
    except OSError:
        return False


def _order(path: Path) -> tuple[int, int, bool] | None:
    """A sort key, larger for newer checkpoints; None for what is no checkpoint."""
    if _is_copy(path) and path.name in (BEST, LAST):
        step = _step(path)
        return None if step is None else (step, 1, False)
    name = _STEP.fullmatch(path.name)
    if name is None or not path.is_dir():
        return None
    return int(name[1]), int(name[2] or 1), True


def _named(pointer: Path) -> Path | None:
    """The checkpoint that `best` or `last` leads to, or is where links were followed."""
    return pointer if _is_copy(pointer) else pointed_at(pointer)


def _is_copy(path: Path) -> bool:
    return path.name in (BEST, LAST) and path.is_dir() and not path.is_symlink()


def _home(path: Path) -> Path:
    """Where a sound checkpoint then lies: a copy takes the place of its step's own."""
    if not _is_copy(path):
        return path
    home = path.with_name(f"step-{_step(path):08d}")
    if home.exists():
        _set_aside(home)
    return path.rename(home)


def _set_aside(path: Path) -> None:
    name, number = f"{_ASIDE}{path.name}", 1
    while path.with_name(name).exists():
        number += 1
        name = f"{_ASIDE}{path.name}-{number}"
    path.rename(path.with_name(name))


def _if_pictures(path: Path) -> str:
    """A hint for a folder that holds folders of files, as pictures lie; "" for others."""
    if not path.is_dir() or (path / "config.yaml").exists():
        return ""
    try:
        runs = sorted(file.parent.name for file in path.glob("*/config.yaml"))
        if runs:
            return f"; its folders are runs: name one of them, such as {path / runs[-1]}"
        files = (file for folder in path.iterdir() if folder.is_dir() for file in folder.iterdir())
        if next((f for f in files if f.is_file() or f.is_dir()), None) is None:
            return ""
    except OSError:  # one that may not be looked into says nothing
        return ""
    return f"; if these are pictures to score: imgcls evaluate --data {shlex.quote(str(path))}"


def _only_fold(path: Path, folds: list[Path]) -> str:
    if len(folds) > 1:
        names = ", ".join(fold.name.removeprefix("fold_") for fold in folds)
        raise CheckpointError(
            f"{path}: has several folds ({names}); name the folder of one, such as {folds[0]} "
            "(`imgcls evaluate --fold all` pools them)"
        )
    return folds[0].name.removeprefix("fold_")
