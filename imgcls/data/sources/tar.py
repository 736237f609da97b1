"""Tar shards in the WebDataset layout: members that share a name up to the first dot are a sample.

photos-{0000..0041}.tar     0001.jpg  0001.cls  0002.jpg  0002.json  ...

The shards are indexed once, see tar_index; a picture is then one read at its place. So epochs are
shuffled over all shards, and a resumed run goes on inside one, as with files.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from imgcls.config.files import open_file
from imgcls.config.reading import ReadingConfig
from imgcls.data.pixels.decode import UnreadableImageError, why_unreadable
from imgcls.data.pixels.formats import IMAGE_SUFFIXES
from imgcls.data.remote.fetching import RemoteState
from imgcls.data.remote.files import (
    RemoteFile,
    StoredFile,
    below_shared,
    named_files,
    notes_on,
    read_range,
)
from imgcls.data.remote.urls import outlives_fork, without_query
from imgcls.data.rows import Rows, column, refuse, sample_table
from imgcls.data.sources.files import expand_braces, file_state
from imgcls.data.sources.tar_index import ShardIndex, index_of
from imgcls.data.splits.words import splits_of_names
from imgcls.data.table import FileState, ImageStore, SampleTable
from imgcls.errors import DataError

# of a server, so many shards are indexed at once
_AT_ONCE = 8


class Member(NamedTuple):
    """Where a file's bytes lie: the shard's number, the first byte, how many."""

    shard: int
    start: int
    size: int


class TarImages(ImageStore):
    """Pictures inside tar files.

    states: of shards behind URLs, in which the members lie where they are said to.
    """

    def __init__(
        self,
        shards: Sequence[StoredFile],
        members: Sequence[Member],
        locations: Sequence[str],
        states: Sequence[RemoteState | None] = (),
    ) -> None:
        self._shards = shards
        self._members = members
        self._locations = locations
        self._states = states
        self.outlives_fork = outlives_fork(map(str, shards))

    def content(self, index: int) -> bytes:
        """The member's bytes."""
        return self.head(index, self._members[index].size)

    def head(self, index: int, size: int) -> bytes:
        """The member's first bytes."""
        number, start, whole = self._members[index]
        size = min(size, whole)
        shard = self._shards[number]
        try:
            if isinstance(shard, RemoteFile):
                state = self._states[number] if self._states else None
                content = read_range(shard.url, state or shard.state(), start, start + size)
            else:
                with open_file(shard) as stream:
                    stream.seek(start)
                    content = stream.read(size)
        except (OSError, MemoryError) as error:
            raise why_unreadable(error, self._locations[index]) from error
        if len(content) < size:
            raise UnreadableImageError("the shard has become shorter")
        return content

    def location(self, index: int) -> str:
        """The shard and the member's name."""
        return self._locations[index]

    def state(self, index: int) -> FileState | None:
        """The member's size and its shard's time, which is not known of one behind a URL."""
        number, _, size = self._members[index]
        shard = self._shards[number]
        found = None if isinstance(shard, RemoteFile) else file_state(shard)
        return None if found is None else FileState(size, found.changed_s)


class TarSource:
    """One .tar file, or several by {000..041}, :: or a glob."""

    options = frozenset(
        {"path_col", "label_col", "split_col", "group_col", "fold_col", "group_regex"}
    )

    def matches(self, spec: str) -> bool:
        """True for what ends in .tar; whether it is there, `read` finds out."""
        return without_query(spec).lower().endswith(".tar")

    def read(self, spec: str, reading: ReadingConfig) -> SampleTable:
        """The samples of all shards. Raises DataError when they cannot be used."""
        shards = shards_of(spec)
        root, names = below_shared(spec, shards)
        samples: list[_Sample] = []
        states = []
        for number, index in enumerate(_indexes(shards, reading)):
            samples += _samples(number, shards[number], names[number], index, reading)
            states.append(index.state)
        if not samples:
            wanted = reading.path_col or " ".join(sorted(s[1:] for s in IMAGE_SUFFIXES))
            raise DataError(f"{spec}: no pictures in it; looked for members with {wanted}")
        titles = dict.fromkeys(title for sample in samples for title in sample.cells)
        if not titles:
            raise DataError(
                f"{spec}: its pictures have no label beside them, as those of a WebDataset shard "
                "have (0001.jpg and 0001.cls or 0001.json); if folders of pictures were packed "
                f"into it, unpack it with `tar -xf {shlex.quote(spec)}` and name the folder"
            )
        label = column(spec, titles, reading.label_col, ("cls", "label"), "--label-col")
        keys = [sample.key for sample in samples]
        splits = splits_of_names(names)
        rows = Rows(
            keys=keys,
            labels=[sample.cells.get(label, "") for sample in samples],
            places=keys,
            splits=None if splits is None else [splits[s.member.shard] for s in samples],
            columns={
                title: [sample.cells.get(title, "") for sample in samples]
                for title in titles
                if title != label
            },
            notes=notes_on(states),
        )
        return sample_table(
            spec,
            shards[0].stem if len(shards) == 1 else shards[0].parent.name or "data",
            rows,
            lambda order, _keys: TarImages(
                shards,
                [samples[row].member for row in order],
                [f"{root}/{keys[row]}" for row in order],
                states,
            ),
            reading,
        )


class _Sample(NamedTuple):
    """A picture and the texts beside it."""

    key: str
    member: Member
    cells: dict[str, str]


def shards_of(spec: str) -> list[StoredFile]:
    """The files of a spec with braces, :: and globs. Raises DataError where one is not there.

    Whether one behind a URL is there, reading it tells.
    """
    try:
        names = [name for part in spec.split("::") for name in expand_braces(part)]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{spec}: its braces cannot be expanded ({error})") from error
    found = [file for name in names for file in named_files(name)]
    shards = list(dict.fromkeys(found))  # a pattern may name again what another has named
    refuse(
        spec,
        "shards that are not there",
        (str(s) for s in shards if isinstance(s, Path) and not s.is_file()),
    )
    if not shards:
        raise DataError(f"{spec}: no such file")
    return shards


def _indexes(shards: Sequence[StoredFile], reading: ReadingConfig) -> Iterator[ShardIndex]:
    """The shards' indexes, one after the other; those of a server, which is waited for, at once."""
    named = (reading.label_col, reading.split_col, reading.group_col, reading.fold_col)
    texts = {"cls", "txt", *(suffix for suffix in named if suffix)}
    if not any(isinstance(shard, RemoteFile) for shard in shards):
        yield from (index_of(shard, texts) for shard in shards)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(index_of, shards, [texts] * len(shards))


def _samples(
    number: int, shard: StoredFile, name: str, index: ShardIndex, reading: ReadingConfig
) -> Iterator[_Sample]:
    """The samples of one shard that have a picture. Raises DataError."""
    for base, own in index.members.items():
        picture = _picture(f"{shard}: {base}", own, reading.path_col)
        if picture is not None:
            member = Member(number, *own[picture])
            yield _Sample(f"{name}/{base}.{picture}", member, dict(index.cells.get(base, {})))


def _picture(where: str, members: Mapping[str, object], path_col: str | None) -> str | None:
    """The suffix of a sample's picture, None for a sample without. Raises DataError."""
    if path_col is not None:
        return path_col if path_col in members else None
    pictures = [suffix for suffix in members if f".{suffix.lower()}" in IMAGE_SUFFIXES]
    if len(pictures) > 1:
        raise DataError(
            f"{where} has several pictures, {', '.join(pictures)}; choose one by --path-col"
        )
    return pictures[0] if pictures else None
