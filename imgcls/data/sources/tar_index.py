"""The index of a tar shard: where each of its files lies, and the texts among them.

Made by reading the headers once and kept in the user's cache folder, as long as the shard has the
size and time, or on a server the size and mark, that it had.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import tarfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from imgcls.data.remote.fetching import RemoteState
from imgcls.data.remote.files import RemoteFile, StoredFile, open_stored
from imgcls.data.sources.cells import json_cells
from imgcls.data.sources.tree import is_system_path
from imgcls.errors import DataError, ImgclsError
from imgcls.storage.kept_files import SHARDS, KeptFiles, cache_folder

# another one for each change of what is in an index
_FORMAT = 1
_LIMIT_BYTES = 4 * 2**30
# a file may be written twice within what its system takes for one instant
_SETTLED_S = 2.0
_MOST_LINKS = 40
_LONGEST_TEXT = 16 * 2**20


class ShardIndex(NamedTuple):
    """The files of a shard by the samples they belong to, in the shard's order.

    members: sample -> suffix -> (first byte, bytes). cells: sample -> what its texts say, by
    column. state: of a remote shard, which it was read in.
    """

    members: Mapping[str, Mapping[str, tuple[int, int]]]
    cells: Mapping[str, Mapping[str, str]]
    state: RemoteState | None


def index_of(shard: StoredFile, texts: Collection[str]) -> ShardIndex:
    """The index of a shard, from the cache where it is there.

    texts: the suffixes of files that are texts, beside json. Raises DataError.
    """
    try:
        state = _state(shard)
        kept = _kept_indexes()
        key = _key(shard, state, texts)
        content = None if key is None else kept.read(key)
        if content is not None:
            found = json.loads(content)
            return ShardIndex(found["members"], found["cells"], _remote(state))
        members, cells = _read(shard, state, texts)
        unchanged = key is not None and _key(shard, _state(shard), texts) == key
        if key is not None and unchanged and _is_settled(state):
            document = {"members": members, "cells": cells}
            kept.write(key, json.dumps(document, separators=(",", ":")).encode())
    except ImgclsError:
        raise
    except OSError as error:
        raise DataError(f"{shard}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # damaged headers make tarfile stumble over whatever they say
        raise DataError(f"{shard}: cannot be read ({error})") from error
    return ShardIndex(members, cells, _remote(state))


def _read(
    shard: StoredFile, state: RemoteState | os.stat_result, texts: Collection[str]
) -> tuple[dict[str, dict[str, tuple[int, int]]], dict[str, dict[str, str]]]:
    members: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    stream = shard.stream(_remote(state)) if isinstance(shard, RemoteFile) else open_stored(shard)
    with stream, tarfile.open(fileobj=stream, mode="r:") as archive:
        for info, base, suffix in named_members(archive.getmembers(), shard):
            members[base][suffix] = (info.offset_data, info.size)
            if suffix in texts or suffix == "json":
                text = _text_of(archive, info, f"{shard}: {base}.{suffix}")
                cells[base].update(
                    json_cells(text, f"{shard}: {base}.json")
                    if suffix == "json"
                    else {suffix: text.strip()}
                )
        check_whole(archive)
    return members, cells


@cache
def _indexes_in(folder: Path) -> KeptFiles:
    return KeptFiles(folder, _LIMIT_BYTES)


def _kept_indexes() -> KeptFiles:
    return _indexes_in(cache_folder() / SHARDS)


def _state(shard: StoredFile) -> RemoteState | os.stat_result:
    return shard.state() if isinstance(shard, RemoteFile) else shard.stat()


def _remote(state: RemoteState | os.stat_result) -> RemoteState | None:
    return state if isinstance(state, RemoteState) else None


def _key(
    shard: StoredFile, state: RemoteState | os.stat_result, texts: Collection[str]
) -> str | None:
    """The name that the index is kept under; None where the shard's content has no mark."""
    if isinstance(state, RemoteState):
        told: Sequence[object] = state
        if not state.mark:
            return None
    else:
        told = (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)
    parts = [_FORMAT, os.fsencode(str(shard)).hex(), list(told), sorted(texts)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]


def _is_settled(state: RemoteState | os.stat_result) -> bool:
    if isinstance(state, RemoteState):
        return True
    return time.time() - max(state.st_mtime, state.st_ctime) > _SETTLED_S


def named_members(
    members: Sequence[tarfile.TarInfo], shard: StoredFile
) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """The files among an archive's members by WebDataset's rule: (member, sample's name, suffix).

    A link stands for the member that it leads to. Raises DataError for one that leads to none, and
    for a file with holes, whose bytes do not lie together.
    """
    by_name = {_plain(info.name): info for info in members}
    seen: set[tuple[str, str]] = set()
    for info in members:
        name = info.name.removeprefix("./")
        base, suffix = base_and_suffix(name)
        if not suffix or info.isdir() or is_system_path(name) or _is_webdatasets_own(name):
            continue
        found = _behind_links(info, by_name)
        if found is None or (found.isfile() and found.issparse()):
            what = "is a link that leads to no member" if found is None else "is a sparse file"
            raise DataError(f"{shard}: {name} {what}; pack the files themselves")
        if found.isfile():
            if (base, suffix) in seen:
                raise DataError(f"{shard}: {name} stands in it twice")
            seen.add((base, suffix))
            yield found, base, suffix


def base_and_suffix(name: str) -> tuple[str, str]:
    """A member's sample and what the member is of it, parted at the first dot of the file's name.

    `a.b/17.seg.png` is `seg.png` of `a.b/17`; the suffix of a name without a dot is "".
    """
    folder, slash, file = name.rpartition("/")
    base, _, suffix = file.partition(".")
    return folder + slash + base, suffix


def _behind_links(
    info: tarfile.TarInfo, by_name: Mapping[str, tarfile.TarInfo]
) -> tarfile.TarInfo | None:
    """The member itself, or the one that its links lead to; None where they lead nowhere."""
    found: tarfile.TarInfo | None = info
    for _ in range(_MOST_LINKS):
        if found is None or not (found.islnk() or found.issym()):
            return found
        # a hard link names a member, a symbolic one a place beside itself
        beside = "" if found.islnk() else posixpath.dirname(found.name)
        found = by_name.get(_plain(posixpath.join(beside, found.linkname)))
    return None


def _plain(name: str) -> str:
    return posixpath.normpath(name)


def _is_webdatasets_own(name: str) -> bool:
    return any(part.startswith("__") for part in name.split("/"))


def _text_of(archive: tarfile.TarFile, info: tarfile.TarInfo, place: str) -> str:
    """The text of a member. Raises DataError where it is none."""
    stream = archive.extractfile(info)
    assert stream is not None  # links were followed
    if info.size > _LONGEST_TEXT:
        raise DataError(f"{place}: a label or a description of {info.size:,} bytes is none")
    try:
        return stream.read().decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: is not UTF-8 (byte {error.start})") from error


def check_whole(archive: tarfile.TarFile) -> None:
    """Raise tarfile.ReadError where the last header is no end: tarfile itself stops silently."""
    stream = archive.fileobj
    assert stream is not None
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"damaged at byte {archive.offset}")
