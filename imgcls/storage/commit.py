"""Atomic replacement of several folders and files; a killed one is finished by the next process.

test_results/
  test/               the results
  .tmp-test.new/      the next ones
  .tmp-test.commit    JSON: all folders and files of the commit; from then on, it is carried out
  .tmp-test.old/      the earlier ones, until what is not replaced has moved into the new ones

Each folder has the same `.commit` beside it. The first one decides: it is written last and removed
first, so that all is done, by whoever finds it, or nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imgcls.config.files import read_json
from imgcls.errors import RunError
from imgcls.storage.durable import (
    TEMPORARY_PREFIX,
    remove_parts,
    strict_json,
    sync_folder,
    write_bytes,
    write_text,
)
from imgcls.storage.lock import take_lock

IsOurs = Callable[[str], bool]
# a note comes with a run, perhaps another one's: it may name no other file
_TEXTS = ("calibration.json", "summary.json")


def lock_of(final: Path) -> Path:
    """The path of the lock file that a writer of the folder holds; it stays."""
    return final.with_name(f".{final.name}.lock")


def beside(final: Path, kind: str) -> Path:
    """Where a folder's next (`new`) or earlier (`old`) content lies, or its `commit`."""
    return final.with_name(f"{TEMPORARY_PREFIX}{final.name}.{kind}")


@dataclass(frozen=True)
class Commit:
    """Folders whose next content lies whole beside them, and texts that files get with them."""

    folders: Sequence[Path]
    texts: Mapping[Path, str] = field(default_factory=dict)

    @classmethod
    def found(cls, final: Path) -> Commit | None:
        """The commit that was decided and not finished, as its note says; None where there is none.

        A note that names other files than an evaluation's, or folders without that note, is none.
        """
        try:
            record = read_json(beside(final, "commit"))
            folders = [_absolute(name, final.parent) for name in record["folders"]]
            texts = {_absolute(name, final.parent): text for name, text in record["texts"].items()}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
        if not all(beside(folder, "commit").is_file() for folder in folders):
            return None
        if not all(file.name in _TEXTS and isinstance(text, str) for file, text in texts.items()):
            return None
        commit = cls(folders, texts)
        return commit if folders and commit.is_decided else None

    @property
    def is_decided(self) -> bool:
        """Whether its note is on disk, so that it will be carried out even after a kill."""
        return bool(self.folders) and beside(self.folders[0], "commit").exists()

    def decide(self) -> None:
        """Write the note from which a later process can finish this commit. Raises OSError."""
        for final in reversed(self.folders):
            here = final.parent
            record = {
                "folders": [_relative(folder, here) for folder in self.folders],
                "texts": {_relative(file, here): text for file, text in self.texts.items()},
            }
            write_text(beside(final, "commit"), strict_json(record))

    def carry_out(self) -> None:
        """Give all folders their names and all files their texts; may be called again after a kill.

        Raises OSError.
        """
        for final in self.folders:
            new = beside(final, "new")
            if not new.exists():
                continue
            if final.exists():
                final.rename(beside(final, "old"))
            new.rename(final)
        for file, text in self.texts.items():
            if not file.parent.is_dir():  # a checkpoint that was removed since
                continue
            remove_parts(file)
            write_text(file, text)

    def take_back(self, before: Mapping[Path, bytes | None]) -> None:
        """Undo what was carried out; before: the content of the files. Raises OSError."""
        for final in reversed(self.folders):
            new, old = beside(final, "new"), beside(final, "old")
            if not new.exists():
                final.rename(new)
            if old.exists():
                old.rename(final)
        for file, content in before.items():
            if content is None:
                file.unlink(missing_ok=True)
            else:
                write_bytes(file, content)
        self._forget()

    def finish(self, is_ours: IsOurs) -> None:
        """Clear away what is replaced, behind `carry_out`. Raises OSError."""
        for final in self.folders:
            _merge(final, is_ours)
            sync_folder(final.parent)
        self._forget()

    def _forget(self) -> None:
        for final in self.folders:
            beside(final, "commit").unlink(missing_ok=True)


def recover(final: Path, is_ours: IsOurs) -> None:
    """Settle what a killed process left, unless another one is writing just now."""
    if beside(final, "commit").exists() or beside(final, "old").exists():
        with contextlib.suppress(RunError):
            lock = take_lock(lock_of(final), final)
            try:
                settle(final, is_ours)
            finally:
                lock.release()


def clear_leftovers(final: Path, is_ours: IsOurs) -> None:
    """Finish or remove all that a killed process left, unless another one is writing just now.

    Raises OSError.
    """
    with contextlib.suppress(RunError):
        lock = take_lock(lock_of(final), final)
        try:
            settle(final, is_ours)
            shutil.rmtree(beside(final, "new"), ignore_errors=True)
        finally:
            lock.release()


def settle(final: Path, is_ours: IsOurs) -> None:
    """Finish the commit that a killed process had begun on a folder whose lock is held.

    is_ours: whether a file of an old folder, named by its path in it with "/" between, is one that
    the new folder replaces. All others are the user's, and move into the new folder. Raises
    RunError while another process writes one of the other folders.
    """
    commit = Commit.found(final)
    if commit is not None:
        with contextlib.ExitStack() as held:
            for other in commit.folders:
                if other != _absolute(final.name, final.parent):
                    held.callback(take_lock(lock_of(other), other).release)
            commit.carry_out()
            commit.finish(is_ours)
    beside(final, "commit").unlink(missing_ok=True)
    remove_parts(beside(final, "commit"))
    _merge(final, is_ours)


def _merge(final: Path, is_ours: IsOurs) -> None:
    """Move what is not replaced out of the old folder, and remove that."""
    old = beside(final, "old")
    # by another name first: half removed it is never taken for a whole one
    doomed = old.with_name(f"{old.name}-removed")
    shutil.rmtree(doomed, ignore_errors=True)
    if not old.exists():
        return
    if not final.exists():
        old.rename(final)
        return
    for file in files_in(old):
        name = file.relative_to(old)
        # what the new folder has was written for it
        if not is_ours(name.as_posix()) and not os.path.lexists(final / name):
            (final / name).parent.mkdir(parents=True, exist_ok=True)
            file.rename(final / name)
    old.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def files_in(folder: Path) -> Iterator[Path]:
    """All files below a folder; a link is one, wherever it leads."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            yield from files_in(entry)
        else:
            yield entry


def _relative(path: Path, here: Path) -> str:
    """How the path is written down, so that it is found when all of a run was moved."""
    try:
        return os.path.relpath(path, here)
    except ValueError:  # on another drive
        return str(path.absolute())


def _absolute(name: str, here: Path) -> Path:
    return Path(os.path.normpath(here.absolute() / name))
