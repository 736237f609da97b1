"""Files that may lie behind URLs: opened and read as those on disk are, by a cache of blocks.

A block of a file is fetched once and kept in the user's cache folder, as long as there is room. Its
key has the file's size and the server's mark of its content, so that another content is another
block. IMGCLS_REMOTE_CACHE says how many GiB may be kept, 20 by default; 0 keeps nothing.
"""

from __future__ import annotations

import glob
import hashlib
import io
import itertools
import math
import os
import posixpath
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from imgcls.config.files import open_file, read_bytes
from imgcls.data.remote.fetching import RemoteError, RemoteState, fetch, matches, state_of
from imgcls.data.remote.urls import (
    HTTP,
    check_url,
    has_pattern,
    is_remote,
    protocol_of,
    without_query,
)
from imgcls.errors import ConfigError, DataError
from imgcls.storage.kept_files import REMOTE, KeptFiles, cache_folder

_VARIABLE = "IMGCLS_REMOTE_CACHE"
_USUAL_GIB = 20.0
_BLOCK_BYTES = 256 * 2**10
# what a reader of headers or columns fetches at once
_BUFFER_BYTES = 4 * _BLOCK_BYTES
_CHECK_EVERY_S = 60.0
_MOST_CHECKED = 10_000
# when this process asked last whether a file is as it was
_checked_s: dict[str, float] = {}


@dataclass(frozen=True)
class RemoteFile:
    """A file behind a URL, with a path's ways to name its parts."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """What stands behind the last slash; a bucket's name, but not a server's."""
        host, _, path = without_query(self.url).partition("://")[2].partition("/")
        return posixpath.basename(path) or ("" if protocol_of(self.url) in HTTP else host)

    @property
    def stem(self) -> str:
        """The name without suffix."""
        return posixpath.splitext(self.name)[0]

    @property
    def suffix(self) -> str:
        """The suffix with its dot, "" without one."""
        return posixpath.splitext(self.name)[1]

    @property
    def parent(self) -> RemoteFile:
        """The folder."""
        start, _, path = without_query(self.url).rstrip("/").partition("://")
        folder = path.rpartition("/")[0]
        return RemoteFile(f"{start}://{folder or path}")

    def below(self, key: str) -> RemoteFile:
        """The file that a table in this folder names so; a URL names itself."""
        if is_remote(key):
            return RemoteFile(key)
        start, _, folder = self.url.partition("://")
        host, slash, path = f"{folder.rstrip('/')}/{key}".partition("/")
        path = posixpath.normpath(slash + path)
        # in a URL of http some characters of a name mean something else
        return RemoteFile(f"{start}://{host}{quote(path) if protocol_of(start) in HTTP else path}")

    def state(self) -> RemoteState:
        """The file's size and the mark of its content, asked anew. Raises RemoteError."""
        state = state_of(self.url)
        _note_checked(self.url)
        return state

    def stream(self, state: RemoteState | None = None) -> BinaryIO:
        """The file, open for reading as bytes, in the state that it was seen in. Raises OSError."""
        state = self.state() if state is None else state
        if state.size is None:
            return io.BytesIO(fetch(self.url, None, 0, 0))
        return io.BufferedReader(_Stream(self.url, state, state.size), _BUFFER_BYTES)


StoredFile = Path | RemoteFile


def stored(place: str) -> StoredFile:
    """The file that a path or a URL names."""
    return RemoteFile(place) if is_remote(place) else Path(place)


def open_stored(file: StoredFile) -> BinaryIO:
    """The file, open for reading as bytes. Raises OSError."""
    return file.stream() if isinstance(file, RemoteFile) else open_file(file)


def read_stored(file: StoredFile) -> bytes:
    """What is in the file. Raises OSError, also for one that memory does not hold."""
    if isinstance(file, Path):
        return read_bytes(file)
    with file.stream() as stream:
        return stream.read()


def below_shared(spec: str, files: Sequence[StoredFile]) -> tuple[str, list[str]]:
    """The deepest folder that the files share, and their names below it with forward slashes.

    Raises DataError where some lie on disk and some behind URLs.
    """
    remote = [file for file in files if isinstance(file, RemoteFile)]
    paths = [file for file in files if isinstance(file, Path)]
    if remote and paths:
        raise DataError(f"{spec}: names files on disk and behind URLs; name them in one way")
    if remote:
        return _below_shared_url(remote)
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return str(folder), [path.relative_to(folder).as_posix() for path in paths]


def _below_shared_url(files: Sequence[RemoteFile]) -> tuple[str, list[str]]:
    paths = [without_query(file.url).partition("://")[2].split("/") for file in files]
    shared = paths[0][:-1]
    for path in paths:
        pairs = zip(shared, path[:-1], strict=False)
        same = itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
        shared = [part for part, _ in same]
    root = f"{files[0].url.partition('://')[0]}:/"
    if shared:
        root += "/" + "/".join(shared)
    return root, ["/".join(path[len(shared) :]) for path in paths]


def named_files(name: str) -> list[StoredFile]:
    """The files of a path or URL with or without a pattern; whether they are there, nobody asks.

    Raises DataError for a URL that cannot be read.
    """
    if is_remote(name):
        check_url(name)
        try:
            return [RemoteFile(url) for url in (matches(name) if has_pattern(name) else [name])]
        except OSError as error:
            raise DataError(f"{name}: cannot be read ({error.strerror})") from error
    path = os.path.expanduser(name)  # noqa: PTH111  has globs
    files = sorted(glob.glob(path)) if glob.has_magic(path) else [path]  # noqa: PTH207  any root
    return [Path(file).absolute() for file in files]


def notes_on(states: Iterable[RemoteState | None]) -> tuple[str, ...]:
    """What the user should know of files that were seen in these states; None: on disk."""
    unmarked = sum(state is not None and not state.mark for state in states)
    if not unmarked:
        return ()
    what = "1 file" if unmarked == 1 else f"{unmarked:,} files"
    note = (
        f"the server gives {what} neither an ETag nor a date, so nothing of them is kept on disk: "
        "each start and each epoch fetches them again"
    )
    return (note,)


def read_range(url: str, state: RemoteState, start: int, stop: int) -> bytes:
    """The bytes from `start` to before `stop`, fewer where the file ends. Raises RemoteError."""
    if state.size is None:
        return fetch(url, None, 0, 0)[start:stop]
    stop = min(stop, state.size)
    if start >= stop:
        return b""
    kept = _kept_blocks()
    # without a mark nobody could tell that a kept block is of an older content
    if not (state.mark and kept.usable):
        content = fetch(url, state.size, start, stop)
        _check_unchanged(url, state)
        return content
    name = hashlib.sha256(f"{url}\0{state.size}\0{state.mark}".encode()).hexdigest()[:40]
    numbers = range(start // _BLOCK_BYTES, (stop - 1) // _BLOCK_BYTES + 1)
    blocks = {number: kept.read(f"{name}-{number}") for number in numbers}
    first = numbers[0] * _BLOCK_BYTES
    for run in _runs([number for number, block in blocks.items() if block is None]):
        begin = run[0] * _BLOCK_BYTES
        end = min((run[-1] + 1) * _BLOCK_BYTES, state.size)
        content = fetch(url, state.size, begin, end)
        _check_unchanged(url, state)
        for number in run:
            at = number * _BLOCK_BYTES - begin
            blocks[number] = content[at : at + _BLOCK_BYTES]
            kept.write(f"{name}-{number}", content[at : at + _BLOCK_BYTES])
    whole = b"".join(block or b"" for block in blocks.values())
    return whole[start - first : stop - first]


def _check_unchanged(url: str, state: RemoteState) -> None:
    """Raise RemoteError where the file has another content by now; asked once a minute at most."""
    if time.monotonic() - _checked_s.get(url, -math.inf) < _CHECK_EVERY_S:
        return
    if state_of(url) != state:
        raise RemoteError(url, "has changed since it was opened")
    _note_checked(url)


def _note_checked(url: str) -> None:
    if len(_checked_s) >= _MOST_CHECKED:
        _checked_s.clear()
    _checked_s[url] = time.monotonic()


def _runs(numbers: Sequence[int]) -> list[range]:
    """The numbers, which ascend, in stretches without gaps."""
    runs: list[range] = []
    for number in numbers:
        if runs and runs[-1].stop == number:
            runs[-1] = range(runs[-1].start, number + 1)
        else:
            runs.append(range(number, number + 1))
    return runs


@cache
def _blocks_in(folder: Path, limit_bytes: float) -> KeptFiles:
    return KeptFiles(folder, limit_bytes)


def _kept_blocks() -> KeptFiles:
    """The cache of blocks. Raises ConfigError for a limit that is none."""
    said = os.environ.get(_VARIABLE, "").strip() or str(_USUAL_GIB)
    try:
        limit_gib = float(said)
    except ValueError:
        limit_gib = math.nan
    if not limit_gib >= 0:
        raise ConfigError(f"{_VARIABLE}: {said!r} is no number of GiB; give 0 or more")
    return _blocks_in(cache_folder() / REMOTE, limit_gib * 2**30)


class _Stream(io.RawIOBase):
    """A remote file that is read at any place."""

    def __init__(self, url: str, state: RemoteState, size: int) -> None:
        super().__init__()
        self._url = url
        self._state = state
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        content = read_range(self._url, self._state, self._at, self._at + len(view))
        view[: len(content)] = content
        self._at += len(content)
        return len(content)
