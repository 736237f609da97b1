"""Pictures in files of their own, on disk or behind URLs, and what a pattern with braces names."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from imgcls.columns.texts import Texts
from imgcls.data.pixels.decode import (
    LARGEST_FILE_BYTES,
    UnreadableImageError,
    read_content,
    too_large,
    why_unreadable,
)
from imgcls.data.remote.fetching import RemoteState
from imgcls.data.remote.files import RemoteFile, read_range
from imgcls.data.remote.urls import outlives_fork
from imgcls.data.table import FileState, ImageStore

_NUMBERS = re.compile(r"(\d+)\.\.(\d+)(?:\.\.(\d+))?")
_LETTERS = re.compile(r"([a-z])\.\.([a-z])|([A-Z])\.\.([A-Z])")
_MOST_NAMES = 1_000_000
_MOST_STATES = 100_000


class FileImages(ImageStore):
    """Pictures in files below a root, or, by an absolute path, anywhere.

    missing: the rows of paths that lead to no file, where they were named and not found there.
    why_missing: what is said of them.
    """

    def __init__(
        self, root: Path, paths: Texts, *, missing: Sequence[int] = (), why_missing: str = ""
    ) -> None:
        self._root = root
        self._paths = paths
        self._missing = missing
        self.why_missing = why_missing

    def content(self, index: int) -> bytes:
        """The picture's file."""
        return read_content(self._root / self._paths[index])

    def head(self, index: int, size: int) -> bytes:
        """The first bytes of the picture's file."""
        return read_content(self._root / self._paths[index], size)

    def location(self, index: int) -> str:
        """The picture's path."""
        return str(self._root / self._paths[index])

    def missing(self) -> Sequence[int]:
        """Rows without a file."""
        return self._missing

    def state(self, index: int) -> FileState | None:
        """The file's size and time."""
        return file_state(self._root / self._paths[index])


class Below(Sequence[str]):
    """The places of names below a root, a folder or a URL, each written when it is asked for."""

    def __init__(self, root: Path | str, names: Sequence[str]) -> None:
        self._root = root
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Below: ...

    def __getitem__(self, index: int | slice) -> str | Below:
        if isinstance(index, slice):
            return Below(self._root, self._names[index])
        return f"{self._root}/{self._names[index]}"


class RemoteImages(ImageStore):
    """Pictures in files of their own below a URL, or, by a whole URL, anywhere.

    A process asks the server for the state of each, and keeps those of the last 100,000 at most.
    """

    def __init__(self, root: RemoteFile, paths: Sequence[str]) -> None:
        self._root = root
        self._paths = paths
        self._states: dict[int, RemoteState] = {}
        self.outlives_fork = outlives_fork([root.url])

    def content(self, index: int) -> bytes:
        """The picture's file."""
        return self.head(index, -1)

    def head(self, index: int, size: int) -> bytes:
        """The first bytes of the picture's file; all of it where `size` is -1."""
        file = self._root.below(self._paths[index])
        try:
            state = self._states.get(index)
            if state is None:
                if len(self._states) >= _MOST_STATES:
                    self._states.clear()
                state = self._states[index] = file.state()
            whole = LARGEST_FILE_BYTES if state.size is None else state.size
            if size < 0 and whole > LARGEST_FILE_BYTES:
                raise UnreadableImageError(too_large(whole))
            return read_range(file.url, state, 0, whole if size < 0 else size)
        except (OSError, MemoryError) as error:
            raise why_unreadable(error, file.url) from error

    def location(self, index: int) -> str:
        """The picture's URL."""
        return self._root.below(self._paths[index]).url

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_states": {}}


def file_state(file: Path) -> FileState | None:
    """A file's size and when it last changed, None for one that is not there.

    The later of both times: copying keeps the one of the content where it is told to, and Windows
    has no other.
    """
    try:
        found = file.stat()
    except OSError:
        return None
    return FileState(found.st_size, max(found.st_mtime, found.st_ctime))


def expand_braces(pattern: str) -> list[str]:
    """All names of a pattern, as bash expands it: {a,b}, {000..041}, {0..9..3}, {a..e}, nested.

    A zero in front pads all numbers to one width. What is neither a list nor a range stays as it
    is, braces and all. Raises ValueError for braces that do not pair, and for a million names.
    """
    opening = pattern.find("{")
    if opening < 0:
        if "}" in pattern:
            raise ValueError(f"nothing opens the }} in {pattern!r}")
        return [pattern]
    closing, commas = _closing(pattern, opening)
    before, inside = pattern[:opening], pattern[opening + 1 : closing]
    if commas:
        ends = [opening, *commas, closing]
        parts = [pattern[left + 1 : right] for left, right in itertools.pairwise(ends)]
        middles = [name for part in parts for name in expand_braces(part)]
    elif (steps := _range(inside)) is not None:
        middles = steps
    else:
        middles = [f"{{{name}}}" for name in expand_braces(inside)]
    rest = expand_braces(pattern[closing + 1 :])
    _check_count(len(middles) * len(rest))
    return [before + middle + name for middle in middles for name in rest]


def _closing(pattern: str, opening: int) -> tuple[int, list[int]]:
    """Where the brace that opens there is closed, and its own commas."""
    depth = 0
    commas: list[int] = []
    for place in range(opening, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[place], 0)
        if depth == 0:
            return place, commas
        if depth == 1 and pattern[place] == ",":
            commas.append(place)
    raise ValueError(f"nothing closes the {{ in {pattern!r}")


def _range(text: str) -> list[str] | None:
    """The numbers or letters of `first..last` or `first..last..step`; None for other texts."""
    if numbers := _NUMBERS.fullmatch(text):
        first, last, step = numbers.groups()
        padded = any(len(number) > 1 and number[0] == "0" for number in (first, last))
        width = max(len(first), len(last)) if padded else 0
        found = _steps(int(first), int(last), int(step or 1) or 1)
        return [f"{number:0{width}}" for number in found]
    if letters := _LETTERS.fullmatch(text):
        first, last = (letter for letter in letters.groups() if letter)
        return [chr(code) for code in _steps(ord(first), ord(last), 1)]
    return None


def _steps(first: int, last: int, step: int) -> range:
    found = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    _check_count(len(found))
    return found


def _check_count(names: int) -> None:
    if names > _MOST_NAMES:
        raise ValueError(f"that is {names:,} names")
