"""Finds the files that a table's paths mean, which tools and machines write differently.

What is there as written is taken as written. For the rest, one reading after the other: ids without
a suffix, .JPG for .jpg, Label Studio's paths, absolute paths of another machine. What finds
something is told.
"""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from imgcls.columns.texts import Texts
from imgcls.data.names import shortened
from imgcls.data.remote.files import RemoteFile
from imgcls.data.remote.urls import HTTP, check_url, is_remote, protocol_of, without_query
from imgcls.data.rows import refuse
from imgcls.data.sources.tree import is_picture
from imgcls.errors import DataError

_LOCAL_FILES = "/data/local-files/"
_UPLOAD = "/data/upload/"
_UPLOAD_HASH = re.compile(r"[0-9a-f]{8}-(?=.)")
_DRIVE = re.compile(r"[A-Za-z]:/")
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# so many paths tell which of their leading folders are another machine's
_SAMPLE = 64
_MOST_FOLDERS = 1000


class Located(NamedTuple):
    """Where each path leads: below the root with forward slashes, or elsewhere as it is.

    lost: the rows, int64, that lead to no file. notes: what was read otherwise than written.
    missing: why the lost ones lead nowhere.
    """

    keys: Texts
    lost: np.ndarray
    notes: tuple[str, ...]
    missing: str


def locate(spec: str, root: Path, paths: Sequence[str]) -> Located:
    """The files of a table's paths. Raises DataError for an id that two pictures have."""
    keys = Texts.of(paths).mapped(lambda path: _key(root, _plain(root, path)))
    there = _Files(root)
    lost = rows_of(row for row, key in enumerate(keys) if not there.has(key))
    notes = []
    for reading, words in (
        (_without_blanks, "have blanks around them and are found without"),
        (partial(_with_suffix, spec), "have no suffix and are found as pictures"),
        (_with_suffix_of_other_case, "write their suffix in another case than the files"),
        (_below_root, "are another machine's and are found below the root"),
    ):
        rows = array("q")
        found = Texts.of(_noting_rows(reading(there, keys, lost), rows))
        if len(found):
            notes.append(f"{len(found):,} paths {words}, such as {shortened(found[:1])}")
            keys = keys.replaced(np.array(rows), found)
            lost = np.setdiff1d(lost, rows, assume_unique=True)
    missing = f"they start from {root}; {_way_out(there, keys, lost)}"
    if len(lost) and all(_is_foreign(keys[row]) for row in lost):
        missing = (
            f"they are absolute, as on another machine, and none of their ends is below {root}"
        )
    return Located(keys, lost, tuple(notes), f"paths that lead to no file ({missing})")


def rows_of(rows: Iterable[int]) -> np.ndarray:
    """Row numbers as int64, taken in one after the other."""
    return np.array(array("q", rows), np.int64)


def _noting_rows(found: Iterable[tuple[int, str]], rows: array[int]) -> Iterator[str]:
    for row, key in found:
        rows.append(row)
        yield key


def locate_urls(spec: str, root: RemoteFile, paths: Sequence[str]) -> Located:
    """The files of a table behind a URL, below its folder or by URLs of their own.

    Whether they are there, reading them tells. Raises DataError for paths of another machine, and
    for URLs that cannot be read.
    """
    keys = Texts.of(paths).mapped(partial(_key_behind, root))
    refuse(spec, f"absolute paths, where those below {root} are read", filter(_is_foreign, keys))
    return Located(keys, np.arange(0), (), "")


def _key_behind(root: RemoteFile, path: str) -> str:
    plain = path.strip().replace("\\", "/")
    if not is_remote(plain):
        return posixpath.normpath(plain)
    check_url(plain)
    inside = plain.removeprefix(f"{root.url}/")
    if inside == plain or without_query(plain) != plain:
        return plain
    # a URL of http has its characters quoted, as a name below the root has not
    return unquote(inside) if protocol_of(plain) in HTTP else inside


def _plain(root: Path, path: str) -> str:
    """The path without what web tools and Windows put into it."""
    if "\\" in path and not os.path.exists(root / path):  # noqa: PTH110  no error of a long name
        path = path.replace("\\", "/")  # the table was written on Windows
    if _LOCAL_FILES in path:
        [path] = parse_qs(urlsplit(path).query).get("d", [path])
    elif _URL.match(path):
        path = unquote(urlsplit(path).path) or path
    elif _UPLOAD in path:
        path = unquote(path)
    return path


def _key(root: Path, path: str) -> str:
    plain = os.path.normpath(path)
    if os.path.isabs(plain) and Path(plain).is_relative_to(root):  # noqa: PTH117  100,000 times
        plain = os.path.relpath(plain, root)
    return plain.replace(os.sep, "/")


def _is_foreign(key: str) -> bool:
    return key.startswith("/") or _DRIVE.match(key) is not None


class _Files:
    """What is below a root, each folder listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = str(root)
        self._by_stem: dict[str, dict[str, list[str]]] = {}

    def has(self, key: str) -> bool:
        # os.path, because pathlib takes five times as long, which 100,000 files make felt
        return os.path.isfile(os.path.join(self._root, key))  # noqa: PTH113, PTH118

    def with_stem(self, key: str) -> list[str]:
        """The pictures, as keys, whose name without suffix is this one's."""
        folder, _, name = key.rpartition("/")
        if folder not in self._by_stem:
            found: dict[str, list[str]] = {}
            try:
                names = sorted(os.listdir(os.path.join(self._root, folder)))  # noqa: PTH118, PTH208
            except (OSError, ValueError):
                names = []
            for entry in filter(is_picture, names):
                found.setdefault(os.path.splitext(entry)[0], []).append(entry)  # noqa: PTH122
            self._by_stem[folder] = found
        names = self._by_stem[folder].get(name, [])
        return [f"{folder}/{entry}" if folder else entry for entry in names]


def _without_blanks(there: _Files, keys: Texts, lost: np.ndarray) -> Iterator[tuple[int, str]]:
    """Rows whose cell has blanks before or after the path."""
    for row in lost:
        key = keys[row].strip()
        if key != keys[row] and there.has(key):
            yield row, key


def _with_suffix(
    spec: str, there: _Files, keys: Texts, lost: np.ndarray
) -> Iterator[tuple[int, str]]:
    """Rows whose path is a picture's without its suffix, as Kaggle's ids are."""
    for row in lost:
        if is_picture(keys[row]):
            continue
        pictures = there.with_stem(keys[row])
        if len(pictures) > 1:
            raise DataError(
                f"{spec}: {keys[row]!r} has no suffix, and both {' and '.join(pictures[:2])} are "
                "there; write the suffixes into the table"
            )
        if pictures and there.has(pictures[0]):
            yield row, pictures[0]


def _with_suffix_of_other_case(
    there: _Files, keys: Texts, lost: np.ndarray
) -> Iterator[tuple[int, str]]:
    """Rows that say .JPG of a .jpg."""
    for row in lost:
        stem, suffix = os.path.splitext(keys[row])  # noqa: PTH122
        alike = [key for key in there.with_stem(stem) if key[len(stem) :].lower() == suffix.lower()]
        if len(alike) == 1 and there.has(alike[0]):  # and is no pipe or socket
            yield row, alike[0]


def _below_root(there: _Files, keys: Texts, lost: np.ndarray) -> Iterator[tuple[int, str]]:
    """Rows whose absolute path ends in one below the root, all cut behind the same folder."""
    foreign = rows_of(row for row in lost if _is_foreign(keys[row]))
    if not len(foreign):
        return
    first = keys[foreign[0]].split("/")
    for cut in range(1, len(first)):
        start = "/".join(first[:cut]) + "/"
        tried = rows_of(row for row in foreign if keys[row].startswith(start))
        sample = tried[:: max(1, len(tried) // _SAMPLE)]
        hits = sum(_file_below(there, keys[row][len(start) :]) is not None for row in sample)
        if 2 * hits > len(sample):
            for row in tried:
                if (key := _file_below(there, keys[row][len(start) :])) is not None:
                    yield row, key
            return


def _way_out(there: _Files, keys: Texts, lost: np.ndarray) -> str:
    """What to do about paths that lead to no file, by where files of these names are."""
    sample = [keys[row] for row in lost[:: max(1, len(lost) // _SAMPLE)]]
    folders = _folders_around(there.root) if sample else []
    for folder in folders:
        if all((folder / key).is_file() for key in sample):
            return f"in {folder} all are there: add --root {shlex.quote(str(folder))}"
    for key in sample:
        other = there.with_stem(os.path.splitext(key)[0])  # noqa: PTH122
        if other and is_picture(key):
            return f"see --root; with another suffix there is {other[0]}"
        lies = next((folder / key for folder in folders if (folder / key).is_file()), None)
        if lies is not None:
            return f"see --root; there is {os.path.relpath(lies, there.root)}"
    return "see --root"


def _folders_around(root: Path) -> list[Path]:
    """The two folders above, and those below to a depth of two, a thousand of them at most."""
    found = [*root.parents[:2], *_folders_in(root)][:_MOST_FOLDERS]
    for folder in found[len(root.parents[:2]) :]:
        if len(found) < _MOST_FOLDERS:
            found += _folders_in(folder)
    return found[:_MOST_FOLDERS]


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except OSError:
        return []


def _file_below(there: _Files, key: str) -> str | None:
    """The file, by the name that it had before Label Studio put a hash before it, or without."""
    folder, slash, name = key.rpartition("/")
    before = folder + slash + _UPLOAD_HASH.sub("", name, count=1)
    return next((one for one in (key, before) if there.has(one)), None)
