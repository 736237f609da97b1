"""Folders that are written beside their places and take their names together, when all is done.

test_results/
  test/             the results
  .tmp-test.new/    the next ones while they are written
  .tmp-test.old/    the earlier ones, for the instant between two renames
  .test.lock        held by the process that writes; stays

Whoever finds `.old` and no `test` was killed in that instant: `settle` gives it its name back.
Nothing is renamed or removed while it is mapped into memory, which Windows refuses.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from filelock import BaseFileLock

from imgcls.engine.durable import TEMPORARY_PREFIX, sync_folder
from imgcls.engine.lock import take_lock
from imgcls.errors import RunError

if TYPE_CHECKING:
    from typing_extensions import Self


class StagedFolders:
    """New folders that replace the old ones at `commit`; without it, nothing has changed.

    is_ours: whether a file of an old folder, named by its path in it with "/" between, is one that
    the new folder replaces. All others are the user's, and move into the new folder.
    """

    def __init__(self, is_ours: Callable[[str], bool]) -> None:
        self._is_ours = is_ours
        self._final: dict[Path, Path] = {}
        self._locks: list[BaseFileLock] = []

    def stage(self, final: Path) -> Path:
        """An empty folder to write in, which becomes `final`.

        Raises RunError while another process stages the same one, OSError when it cannot be made.
        """
        if final.is_symlink():  # the folder behind the link is replaced, not the link
            final = final.resolve()
        final.parent.mkdir(parents=True, exist_ok=True)
        self._locks.append(take_lock(_lock_of(final), final))
        settle(final, self._is_ours)
        new = _beside(final, "new")
        if new.exists():  # of a process that was killed
            shutil.rmtree(new)
        new.mkdir()
        self._final[new] = final
        return new

    def final(self, path: Path) -> Path:
        """Where a path below a staged folder is after `commit`."""
        for new, final in self._final.items():
            if path.is_relative_to(new):
                return final / path.relative_to(new)
        return path

    def commit(self) -> None:
        """Give every staged folder its name. Raises OSError."""
        self._swap()
        self._settle()

    def _swap(self) -> None:
        """New folders for old ones. Raises OSError, and then all are the old ones again."""
        gc.collect()  # what still maps a file of theirs, in a circle of objects
        for new in self._final:
            for folder, _, _ in os.walk(new):
                sync_folder(Path(folder))
        done: list[tuple[Path, Path]] = []
        try:
            for new, final in self._final.items():
                if final.exists():
                    _rename(final, _beside(final, "old"), done)
                _rename(new, final, done)
        except OSError:
            for source, target in reversed(done):
                target.rename(source)
            raise

    def _settle(self) -> None:
        for final in self._final.values():
            sync_folder(final.parent)
            settle(final, self._is_ours)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for new in self._final:  # without a commit
            shutil.rmtree(new, ignore_errors=True)
        for lock in self._locks:
            lock.release()


@contextlib.contextmanager
def locked(final: Path) -> Iterator[None]:
    """Keep other processes from writing the folder. Raises RunError while one does."""
    lock = take_lock(_lock_of(final), final)
    try:
        yield
    finally:
        lock.release()


def recover(final: Path, is_ours: Callable[[str], bool]) -> None:
    """Settle what a killed process left, unless another one is writing just now."""
    if _beside(final, "old").exists():
        with contextlib.suppress(RunError), locked(final):
            settle(final, is_ours)


def settle(final: Path, is_ours: Callable[[str], bool]) -> None:
    """Bring the folder to where a commit that was killed was going, or back to the old one."""
    old = _beside(final, "old")
    # by another name first: half removed it is never taken for a whole one
    doomed = old.with_name(f"{old.name}-removed")
    shutil.rmtree(doomed, ignore_errors=True)
    if not old.exists():
        return
    if not final.exists():
        old.rename(final)
        return
    for file in _files(old):
        name = file.relative_to(old)
        if not is_ours(name.as_posix()):
            (final / name).parent.mkdir(parents=True, exist_ok=True)
            file.rename(final / name)
    old.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _lock_of(final: Path) -> Path:
    return final.with_name(f".{final.name}.lock")


def _beside(final: Path, kind: str) -> Path:
    return final.with_name(f"{TEMPORARY_PREFIX}{final.name}.{kind}")


def _rename(source: Path, target: Path, done: list[tuple[Path, Path]]) -> None:
    source.rename(target)
    done.append((source, target))


def _files(folder: Path) -> Iterator[Path]:
    """All files below a folder; a link is one, wherever it leads."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            yield from _files(entry)
        else:
            yield entry
