"""Tar shards in the WebDataset layout: members that share a name up to the first dot are a sample.

photos-{0000..0041}.tar     0001.jpg  0001.cls  0002.jpg  0002.json  ...

The shards are indexed once, by their headers; a picture is then one read at its place. So epochs
are shuffled over all shards, and a resumed run goes on inside one, as with files.
"""

from __future__ import annotations

import glob
import os
import posixpath
import shlex
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from imgcls.config.files import open_file
from imgcls.config.reading import ReadingConfig
from imgcls.data.pixels.decode import UnreadableImageError, why_unreadable
from imgcls.data.pixels.formats import IMAGE_SUFFIXES
from imgcls.data.rows import Rows, column, refuse, sample_table
from imgcls.data.sources.cells import json_cells
from imgcls.data.sources.files import below_shared_folder, expand_braces, file_state
from imgcls.data.sources.tree import is_system_path
from imgcls.data.splits.words import splits_of_names
from imgcls.data.table import FileState, ImageStore, SampleTable
from imgcls.errors import DataError

_MOST_LINKS = 40
_LONGEST_TEXT = 16 * 2**20


class Member(NamedTuple):
    """Where a file's bytes lie: the shard's number, the first byte, how many."""

    shard: int
    start: int
    size: int


class TarImages(ImageStore):
    """Pictures inside tar files."""

    def __init__(
        self, shards: Sequence[Path], members: Sequence[Member], locations: Sequence[str]
    ) -> None:
        self._shards = shards
        self._members = members
        self._locations = locations

    def content(self, index: int) -> bytes:
        """The member's bytes."""
        return self.head(index, self._members[index].size)

    def head(self, index: int, size: int) -> bytes:
        """The member's first bytes."""
        shard, start, whole = self._members[index]
        size = min(size, whole)
        try:
            with open_file(self._shards[shard]) as stream:
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
        """The member's size and its shard's time."""
        shard, _, size = self._members[index]
        found = file_state(self._shards[shard])
        return None if found is None else FileState(size, found.changed_s)


class TarSource:
    """One .tar file, or several by {000..041}, :: or a glob."""

    options = frozenset(
        {"path_col", "label_col", "split_col", "group_col", "fold_col", "group_regex"}
    )

    def matches(self, spec: str) -> bool:
        """True for what ends in .tar; whether it is there, `read` finds out."""
        return spec.lower().endswith(".tar")

    def read(self, spec: str, reading: ReadingConfig) -> SampleTable:
        """The samples of all shards. Raises DataError when they cannot be used."""
        shards = shards_of(spec)
        root, names = below_shared_folder(shards)
        samples = [
            sample
            for number, (shard, name) in enumerate(zip(shards, names, strict=True))
            for sample in _samples(number, shard, name, reading)
        ]
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
        )
        return sample_table(
            spec,
            shards[0].stem if len(shards) == 1 else shards[0].parent.name or "data",
            rows,
            lambda order, _keys: TarImages(
                shards,
                [samples[row].member for row in order],
                [f"{root}/{keys[row]}" for row in order],
            ),
            reading,
        )


class _Sample(NamedTuple):
    """A picture and the texts beside it."""

    key: str
    member: Member
    cells: dict[str, str]


def shards_of(spec: str) -> list[Path]:
    """The files of a spec with braces, :: and globs. Raises DataError where one is not there."""
    try:
        names = [name for part in spec.split("::") for name in expand_braces(part)]
    except (ValueError, RecursionError) as error:
        raise DataError(f"{spec}: its braces cannot be expanded ({error})") from error
    named = [os.path.expanduser(name) for name in names]  # noqa: PTH111  has globs
    found = [
        Path(file).absolute()
        for name in named
        for file in (sorted(glob.glob(name)) if glob.has_magic(name) else [name])  # noqa: PTH207
    ]
    shards = list(dict.fromkeys(found))  # a pattern may name again what another has named
    refuse(
        spec, "shards that are not there", (str(shard) for shard in shards if not shard.is_file())
    )
    if not shards:
        raise DataError(f"{spec}: no such file")
    return shards


def _samples(number: int, shard: Path, name: str, reading: ReadingConfig) -> Iterator[_Sample]:
    """The samples of one shard that have a picture. Raises DataError."""
    named = (reading.label_col, reading.split_col, reading.group_col, reading.fold_col)
    texts = {"cls", "txt", *(suffix for suffix in named if suffix)}
    members: dict[str, dict[str, Member]] = defaultdict(dict)
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    try:
        with open_file(shard) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for info, base, suffix in named_members(archive.getmembers(), shard):
                members[base][suffix] = Member(number, info.offset_data, info.size)
                if suffix in texts or suffix == "json":
                    text = _text_of(archive, info, f"{shard}: {base}.{suffix}")
                    cells[base].update(
                        json_cells(text, f"{shard}: {base}.json")
                        if suffix == "json"
                        else {suffix: text.strip()}
                    )
            check_whole(archive)
    except DataError:
        raise
    except Exception as error:  # damaged headers make tarfile stumble over whatever they say
        raise DataError(f"{shard}: cannot be read ({error})") from error
    for base, own in members.items():
        picture = _picture(f"{shard}: {base}", own, reading.path_col)
        if picture is not None:
            yield _Sample(f"{name}/{base}.{picture}", own[picture], cells[base])


def named_members(
    members: Sequence[tarfile.TarInfo], shard: Path
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


def _picture(where: str, members: Mapping[str, Member], path_col: str | None) -> str | None:
    """The suffix of a sample's picture, None for a sample without. Raises DataError."""
    if path_col is not None:
        return path_col if path_col in members else None
    pictures = [suffix for suffix in members if f".{suffix.lower()}" in IMAGE_SUFFIXES]
    if len(pictures) > 1:
        raise DataError(
            f"{where} has several pictures, {', '.join(pictures)}; choose one by --path-col"
        )
    return pictures[0] if pictures else None


def check_whole(archive: tarfile.TarFile) -> None:
    """Raise tarfile.ReadError where the last header is no end: tarfile itself stops silently."""
    stream = archive.fileobj
    assert stream is not None
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"damaged at byte {archive.offset}")
