"""Renaming, replacing and removing files as Windows does it, where files in use stay."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

RESTRICTED = ("rename", "replace", "unlink", "remove", "rmdir")


def _in_use() -> set[str]:
    found = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        if len(parts := line.split(maxsplit=5)) == 6:
            found.add(parts[5])
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            target = descriptor.readlink()
            if not target.is_dir():
                found.add(str(target))
    return found


def refused_while_in_use(function):
    """The function of os, which refuses files that this process has open or mapped."""

    def call(path, *rest, **keywords):
        names = [Path.cwd() / os.fsdecode(name) for name in (path, *rest[:1])]
        if keywords.get("dir_fd") is not None:
            names = [Path(f"/proc/self/fd/{keywords['dir_fd']}").readlink() / os.fsdecode(path)]
        for used in _in_use():
            if any(Path(used).is_relative_to(name) for name in names):
                raise PermissionError(errno.EACCES, "in use by this process", str(used))
        if function.__name__ == "replace" and Path(rest[0]).is_dir():
            raise PermissionError(errno.EACCES, "a folder cannot be replaced", str(rest[0]))
        return function(path, *rest, **keywords)

    return call
