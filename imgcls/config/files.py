"""Opening what a user names: regular files only, because a pipe or a device may never end.

Everything that is read goes through here, or is looked at by `check_regular` before a library opens
it by itself.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

_KINDS = (
    (stat.S_ISFIFO, "named pipe"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "device"),
    (stat.S_ISBLK, "device"),
)


class SpecialFileError(OSError):
    """A pipe, a socket or a device stands where a file should."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise SpecialFileError for a pipe, socket or device, and OSError for what is not there."""
    mode = os.stat(path).st_mode  # noqa: PTH116  a path may be a text
    for is_kind, kind in _KINDS:
        if is_kind(mode):
            reason = f"is a {kind}, not a regular file"
            raise SpecialFileError(errno.EINVAL, reason, os.fspath(path))


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """The regular file, open for reading as bytes. Raises OSError."""
    check_regular(path)
    return open(path, "rb", opener=_without_waiting)


def read_bytes(path: Path) -> bytes:
    """What is in the regular file. Raises OSError, also for one that memory does not hold."""
    with open_file(path) as stream:
        try:
            return stream.read()
        except (MemoryError, OverflowError) as error:
            reason = f"is larger than memory: {path.stat().st_size / 2**30:,.1f} GiB"
            raise OSError(errno.ENOMEM, reason, os.fspath(path)) from error


def read_text(path: Path) -> str:
    """The text of the regular file, which is UTF-8. Raises OSError and UnicodeDecodeError."""
    return read_bytes(path).decode().replace("\r\n", "\n")


def read_json(path: Path) -> Any:
    """The document in the regular file. Raises OSError, and ValueError for what is not JSON."""
    import json  # not before it is wanted: `--help` is quick without

    try:
        return json.loads(read_text(path))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def sha256_of(path: Path) -> str:
    """The SHA-256 of the regular file, in hex. Raises OSError."""
    import hashlib

    digest = hashlib.sha256()
    with open_file(path) as stream:
        while block := stream.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _without_waiting(path: str, flags: int) -> int:
    # a pipe that has taken the file's place since it was looked at would be waited for
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
