"""Files kept in the user's cache folder because making or fetching them again takes long.

<cache>/
  shards/<key>    the index of a tar shard, see imgcls.data.sources.tar_index
  remote/<key>    a block of a file behind a URL, see imgcls.data.sources.blocks
  each: uint32 CRC-32 of the content, then the content

A key tells all that the content follows from, so that none is ever out of date. Any number of
processes may read, write and remove at once. Loads no numpy.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import tempfile
import zlib
from pathlib import Path

from imgcls.config.files import read_bytes
from imgcls.storage.durable import replacing

SHARDS, REMOTE = "shards", "remote"
_HEAD = struct.Struct("<I")
# how full the folder is, is looked at when so much of what it may hold has been written
_LOOK_EVERY = 1 / 64
_LEFT = 0.9


def cache_folder() -> Path:
    """The user's cache folder for imgcls, by the rules of the system; IMGCLS_CACHE overrides.

    Below the temporary folder for a user without a home, as in a container of another's image.
    """
    if chosen := os.environ.get("IMGCLS_CACHE"):
        return Path(chosen)
    from platformdirs import user_cache_path

    try:
        return user_cache_path("imgcls", appauthor=False, opinion=False)
    except RuntimeError:  # no home
        number = os.getuid() if hasattr(os, "getuid") else 0
        return Path(tempfile.gettempdir()) / f"imgcls-{number}" / "imgcls"


class KeptFiles:
    """A folder of kept files; those used longest ago go where it holds more than it may.

    limit_bytes: the most that is kept; never more than half of what is free and kept together. A
    folder that cannot be written, or a limit of 0, keeps nothing, and nothing is raised.
    """

    def __init__(self, folder: Path, limit_bytes: float) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._not_counted: float | None = None
        self.usable = limit_bytes > 0 and _is_writable(folder)

    def read(self, key: str) -> bytes | None:
        """The content, None where it is not kept or damaged."""
        file = self._folder / key
        try:
            content = read_bytes(file)
        except OSError:
            return None
        if content[: _HEAD.size] != _HEAD.pack(zlib.crc32(content[_HEAD.size :])):
            return None
        # when it was used last is in its time: file systems are mounted without that of reading
        with contextlib.suppress(OSError):
            os.utime(file)
        return content[_HEAD.size :]

    def write(self, key: str, content: bytes) -> None:
        """Keep the content, as far as there is room."""
        if not self.usable:
            return
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._make_room(len(content))
            # the checksum tells what a power cut has left unwritten
            with replacing(self._folder / key, flushed=False) as stream:
                stream.write(_HEAD.pack(zlib.crc32(content)) + content)

    def _make_room(self, size: int) -> None:
        if self._not_counted is not None:
            self._not_counted += size
            if self._not_counted < self._limit_bytes * _LOOK_EVERY:
                return
        self._not_counted = 0.0
        files = []
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another process has removed it
                    found = entry.stat()
                    files.append((found.st_mtime_ns, found.st_size, entry.path))
        used = sum(bytes_used for _, bytes_used, _ in files)
        free = shutil.disk_usage(self._folder).free
        allowed = min(self._limit_bytes, (used + free) / 2)
        if used + size <= allowed:
            return
        for _, bytes_used, path in sorted(files):
            if used + size <= allowed * _LEFT:
                return
            with contextlib.suppress(OSError):
                Path(path).unlink()
            used -= bytes_used


def _is_writable(folder: Path) -> bool:
    there = next((part for part in (folder, *folder.parents) if os.path.lexists(part)), None)
    return there is not None and there.is_dir() and os.access(there, os.W_OK | os.X_OK)
