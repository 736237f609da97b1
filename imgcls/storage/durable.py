"""Atomic and durable writes: a file is there whole or not at all, also after a power cut."""

from __future__ import annotations

import ctypes
import errno
import glob
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from imgcls.config.files import read_text
from imgcls.config.unprintable import UNPRINTABLE
from imgcls.errors import OutputError, RunFailedError

TEMPORARY_PREFIX = ".tmp-"
_REASONS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file is larger than may be written there (see `ulimit -f`)",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.ENOENT: "the folder is gone; put it back",
}
# of a folder that may be read only
READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
# what making a folder answers where a file is; on Windows the last, below a file
_IN_THE_WAY = (errno.ENOTDIR, errno.EEXIST, errno.ENOENT)
_LONGEST_POINTER_BYTES = 4096
# of Linux's renameat2(2)
_HERE, _RENAME_EXCHANGE = -100, 2
# what a file system answers that has no flushing of folders
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


def strict_json(value: Any, *, indent: int | None = None) -> str:
    """The value as strict JSON text. Raises ValueError for nan and inf.

    What a terminal acts upon, and halves of surrogate pairs, which UTF-8 lacks, are escaped.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def sync_file(file: Path) -> None:
    """Return when the file's bytes are on the disk."""
    descriptor = os.open(file, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Return when the folder's entries are on the disk (Windows has no such call)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(descriptor)


def why_not_written(error: OSError) -> str:
    """Why something cannot be written and, where there is a way, what to do about it."""
    place = error.filename if error.errno in _IN_THE_WAY else None
    if isinstance(place, (str, os.PathLike)) and (file := file_in_the_way(Path(place))):
        return f"{file} is a file, not a folder; name another place"
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)


def file_in_the_way(folder: Path) -> Path | None:
    """The part of a folder's path that is no folder, so that it cannot be made; None for none."""
    there = next((part for part in (folder, *folder.parents) if os.path.lexists(part)), None)
    return None if there is None or there.is_dir() else there


@contextmanager
def writing(place: Path, then: str = "") -> Iterator[None]:
    """Raise an OSError of the block, which only writes, as an OutputError that names this place.

    then: what to do when there is room again.
    """
    try:
        yield
    except OSError as error:
        more = f"; {then}" if then else ""
        raise OutputError(f"{place}: cannot be written: {why_not_written(error)}{more}") from error


def refused(error: OSError, place: Path, then: str) -> RunFailedError:
    """The error to raise where the system refused to read or to write.

    then: what to do about it where the system's answer says no more.
    """
    if error.errno in _NO_ROOM:
        return OutputError(f"{place}: cannot be written: {why_not_written(error)}; {then}")
    what = error.strerror or str(error)
    if error.filename is not None:
        what += f": {error.filename}"
    return RunFailedError(f"{place}: the system refused what is needed ({what}); {then}")


def write_text(file: Path, text: str) -> None:
    """Replace the file by this text; a reader sees the old or the new content, never a part."""
    write_bytes(file, text.encode("utf-8"))


def write_bytes(file: Path, content: bytes) -> None:
    """Replace the file by these bytes; a reader sees the old or the new content, never a part."""
    with replacing(file) as stream:
        stream.write(content)


@contextmanager
def replacing(file: Path, *, flushed: bool = True) -> Iterator[BinaryIO]:
    """A stream that replaces the file when the block ends well; a reader never sees a part.

    flushed: what is written outlives a power cut too, which takes the time of the disk.
    """
    temporary = file.with_name(f"{TEMPORARY_PREFIX}{file.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            if flushed:
                os.fsync(stream.fileno())
        os.replace(temporary, file)  # noqa: PTH105  replaces on Windows too
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if flushed:
        sync_folder(file.parent)


def remove_parts(file: Path) -> None:
    """Remove what killed processes had written of the file's next content."""
    for part in file.parent.glob(f"{TEMPORARY_PREFIX}{glob.escape(file.name)}-*"):
        part.unlink(missing_ok=True)


def remove_parts_in(folder: Path) -> None:
    """Remove what killed processes had written of the next contents of a folder's files."""
    for part in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if part.is_symlink() or part.is_file():
            part.unlink(missing_ok=True)


def publish_folder(temporary: Path, final: Path) -> None:
    """Give a finished temporary folder its name. Raises OSError when the name is taken."""
    for file in temporary.iterdir():
        if file.is_file():  # folders in it are their writers' to sync
            sync_file(file)
    sync_folder(temporary)
    temporary.rename(final)
    sync_folder(final.parent)


def remove_folder(folder: Path) -> None:
    """Remove a folder so that a half-removed one is never mistaken for a whole one."""
    doomed = folder.with_name(f"{TEMPORARY_PREFIX}removed-{folder.name}-{os.getpid()}")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def replace_folder(new: Path, final: Path) -> Path:
    """Give a finished folder the name of another one, which is removed; the name's path.

    On Linux the name leads to one of the two at every instant; elsewhere it is gone for the time of
    a rename. Raises OSError, with the earlier one back in its place.
    """
    old = final.with_name(f"{TEMPORARY_PREFIX}removed-{final.name}-{os.getpid()}")
    if _exchange(new, final):
        new.rename(old)
    else:
        final.rename(old)
        try:
            new.rename(final)
        except BaseException:
            old.rename(final)
            raise
    sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)
    return final


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders have each other's names from one instant on; False where there is no way."""
    swap = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    names = os.fsencode(one.absolute()), os.fsencode(other.absolute())
    return swap is not None and swap(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE) == 0


def point(link: Path, target_name: str) -> None:
    """Make `link` lead to its sibling `target_name`, atomically.

    A relative symbolic link; a one-line JSON file where the file system has no links. Raises
    ValueError for a link to itself, which would lose what it led to.
    """
    if link.name == target_name:
        raise ValueError(f"{link}: would lead to itself")
    temporary = link.with_name(f"{TEMPORARY_PREFIX}{link.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        try:
            temporary.symlink_to(target_name, target_is_directory=True)
        except (OSError, NotImplementedError):
            write_text(temporary, strict_json({"checkpoint": target_name}))
        try:
            os.replace(temporary, link)  # noqa: PTH105  replaces on Windows too
        except PermissionError:
            # but no link to a folder, which has to go first there
            if not link.is_symlink():
                raise
            link.unlink()
            os.replace(temporary, link)  # noqa: PTH105
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(link.parent)


def pointed_at(link: Path) -> Path | None:
    """Where `link` leads, or None when it is not there or leads nowhere.

    It may be a link, the JSON file that stands for one, or a link's text, as some copies leave it.
    """
    if link.is_symlink():
        target_name = os.readlink(link)  # noqa: PTH115  the text, not the resolved path
    elif link.is_file() and link.stat().st_size <= _LONGEST_POINTER_BYTES:
        try:
            target_name = read_text(link).strip()
            if target_name.startswith("{"):
                target_name = str(json.loads(target_name)["checkpoint"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
    else:
        return None
    # only a sibling may be named: a link or pointer never leads out of its folder
    if not target_name or "\0" in target_name or Path(target_name).name != target_name:
        return None
    target = link.with_name(target_name)
    try:
        return target if target.is_dir() else None
    except OSError:  # a name longer than any file's
        return None
