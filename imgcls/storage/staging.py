"""Folders that are written beside their places and take their names together, when all is done."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import BaseFileLock

from imgcls.config.files import read_bytes
from imgcls.storage.commit import Commit, IsOurs, beside, files_in, lock_of, settle
from imgcls.storage.durable import TEMPORARY_PREFIX, sync_file, sync_folder
from imgcls.storage.lock import take_lock

if TYPE_CHECKING:
    from typing_extensions import Self


class StagedFolders:
    """New folders that replace the old ones at `commit`; without it, nothing has changed.

    Nothing is renamed or removed while it is mapped into memory, which Windows refuses.
    is_ours: whether a file of an old folder, named by its path in it with "/" between, is one that
    the new folder replaces. All others are the user's, and move into the new folder.
    """

    def __init__(self, is_ours: IsOurs) -> None:
        self._is_ours = is_ours
        self._final: dict[Path, Path] = {}
        self._texts: dict[Path, str] = {}
        self._locks: list[BaseFileLock] = []
        self._commit: Commit | None = None

    def stage(self, final: Path, keep: IsOurs = lambda _name: False) -> Path:
        """A folder to write in, which becomes `final`.

        keep: which files of the old one are in it already, to be replaced and not written into.
        Raises RunError while another process stages the same one, OSError when it cannot be made.
        """
        # the folder behind a link is replaced, not the link
        final = final.resolve() if final.is_symlink() else final
        final.parent.mkdir(parents=True, exist_ok=True)
        self._locks.append(take_lock(lock_of(final), final))
        settle(final, self._is_ours)
        new = beside(final, "new")
        if new.exists():  # of a process that was killed
            shutil.rmtree(new)
        new.mkdir()
        self._final[new] = final
        for file in files_in(final) if final.is_dir() else ():
            name = file.relative_to(final)
            if keep(name.as_posix()) and not name.name.startswith(TEMPORARY_PREFIX):
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                _link(file, new / name)
        return new

    def put(self, file: Path, text: str) -> None:
        """Let a file elsewhere get this text at `commit`, together with the folders."""
        self._texts[file] = text

    def final(self, path: Path) -> Path:
        """Where a path below a staged folder is after `commit`."""
        for new, final in self._final.items():
            if path.is_relative_to(new):
                return final / path.relative_to(new)
        return path

    def commit(self) -> OSError | None:
        """Give every staged folder its name, and the files their texts.

        Raises OSError, and then all is as it was. Gives back the error that kept what is replaced
        from being cleared away; whoever writes or reads the folders next does that.
        """
        gc.collect()  # what still maps a file of theirs, in a circle of objects
        for new in self._final:
            for folder, _, _ in os.walk(new):
                sync_folder(Path(folder))
        before = {file: read_bytes(file) if file.exists() else None for file in self._texts}
        self._commit = Commit(list(self._final.values()), self._texts)
        try:
            self._commit.decide()
            self._commit.carry_out()
        except OSError:
            with contextlib.suppress(OSError):  # then it stays decided, and is carried out later
                self._commit.take_back(before)
            raise
        try:
            self._commit.finish(self._is_ours)
        except OSError as error:
            return error
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._commit is None or not self._commit.is_decided:
            for new in self._final:  # without a commit
                shutil.rmtree(new, ignore_errors=True)
        for lock in self._locks:
            lock.release()


def not_cleared(what: str, error: OSError) -> str:
    """A note for the error that `commit` gives back; what: "the page is"."""
    return (
        f"{what} whole, but the earlier files could not be cleared away "
        f"({error.strerror}: {error.filename}); the next evaluate or report does that"
    )


def _link(file: Path, other: Path) -> None:
    """The same file once more; a copy where the file system has no second names."""
    try:
        os.link(file, other)
    except OSError:
        shutil.copy2(file, other)
        sync_file(other)
