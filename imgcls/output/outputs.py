"""Checks of output files that the user names: nothing but our own is ever replaced.

imgcls knows its own files by a mark in each format: the generator of an HTML page, the software of
a PNG or SVG, the titles of a CSV table.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from imgcls.config.files import open_file
from imgcls.errors import ConfigError
from imgcls.storage.durable import file_in_the_way, why_not_written

# what the templates of pages and the drawings write
MARK = "imgcls"
_MARKS = {
    ".html": [b'<meta name="generator" content="imgcls'],
    ".htm": [b'<meta name="generator" content="imgcls'],
    ".png": [b"Software\x00imgcls"],
    ".svg": [b"<dc:title>imgcls</dc:title>"],
}
_HEAD_BYTES = 4096


def require_replaceable(
    option: str,
    file: Path,
    *,
    force: bool,
    inputs: Iterable[Path | str] = (),
    columns: Sequence[str] | None = None,
) -> None:
    """Raise ConfigError unless the file can be made, or replaced without loss.

    option: what named the file. inputs: files that are read and so never replaced. columns: the
    titles of a CSV table, where it is one. force: also replace what imgcls did not write.
    """
    named = f"{option} {file}"
    require_parent(option, file)
    try:
        found = file.stat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"{named}: cannot be written: {why_not_written(error)}") from error
    if stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{named}: is a folder; name a file")
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{named}: is no ordinary file and is never replaced; name another")
    if any(_is_same(file, other) for other in inputs):
        raise ConfigError(f"{named}: is one of the files that are read; name another")
    if not force and not is_ours(file, columns):
        raise ConfigError(
            f"{named}: exists, and imgcls did not write it; name another, or replace it with "
            "--force"
        )


def require_parent(option: str, file: Path) -> None:
    """Raise ConfigError where the folder that a new file is to lie in is none."""
    if file.absolute().parent.is_dir():
        return
    if blocked := file_in_the_way(file.parent):
        raise ConfigError(f"{option} {file}: {blocked} is a file, not a folder; name another place")
    raise ConfigError(f"{option} {file}: there is no folder {file.parent}")


def is_ours(file: Path, columns: Sequence[str] | None = None) -> bool:
    """Whether imgcls wrote the file, by the mark that its format has."""
    try:
        with open_file(file) as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return False
    if not head:  # as `mktemp` makes it, there is nothing to lose
        return True
    if columns is not None:
        return head.startswith(",".join(columns).encode() + b"\n")
    return any(mark in head for mark in _MARKS.get(file.suffix.lower(), ()))


def _is_same(file: Path, other: Path | str) -> bool:
    try:
        return os.path.samefile(file, other)  # noqa: PTH121  takes texts too
    except OSError:
        return False
