"""Tar shards in the WebDataset layout: members that share a name up to the first dot are a sample.

photos-{0000..0041}.tar     0001.jpg  0001.cls  0002.jpg  0002.json  ...

The shards are indexed once, by their headers; a picture is then one read at its place. So epochs
are shuffled over all shards, and a resumed run goes on inside one, as with files.
"""

from __future__ import annotations

import glob
import os
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from imgcls.config.files import open_file
from imgcls.config.reading import ReadingConfig
from imgcls.data.decode import UnreadableImageError
from imgcls.data.formats import IMAGE_SUFFIXES
from imgcls.data.rows import Rows, column, refuse, sample_table
from imgcls.data.source import ImageStore, SampleTable
from imgcls.data.sources.files import below_shared_folder
from imgcls.data.sources.manifest import json_cells
from imgcls.data.split_words import splits_of_names
from imgcls.errors import DataError


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
        shard, start, size = self._members[index]
        try:
            with open_file(self._shards[shard]) as stream:
                stream.seek(start)
                content = stream.read(size)
        except OSError as error:
            raise UnreadableImageError(error.strerror or str(error)) from error
        if len(content) < size:
            raise UnreadableImageError("the shard has become shorter")
        return content

    def location(self, index: int) -> str:
        """The shard and the member's name."""
        return self._locations[index]


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
        shards = _shards(spec)
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
            lambda order: TarImages(
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


def _shards(spec: str) -> list[Path]:
    try:
        from webdataset.shardlists import expand_urls
    except ImportError:
        raise DataError(
            f'{spec}: tar shards are read with webdataset: pip install "imgcls[webdataset]"'
        ) from None
    try:
        named = [os.path.expanduser(name) for name in expand_urls(spec)]  # noqa: PTH111  has globs
    except (ValueError, AssertionError) as error:
        raise DataError(f"{spec}: its braces cannot be expanded ({error})") from error
    shards = [
        Path(found).absolute()
        for name in named
        for found in (sorted(glob.glob(name)) if glob.has_magic(name) else [name])  # noqa: PTH207
    ]
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
            for info, base, suffix in _named_members(archive):
                if suffix in members[base]:
                    raise DataError(f"{shard}: {base}.{suffix} stands in it twice")
                members[base][suffix] = Member(number, info.offset_data, info.size)
                if suffix in texts or suffix == "json":
                    text = archive.extractfile(info).read()  # type: ignore[union-attr]
                    found = json_cells(text, f"{shard}: {base}.json") if suffix == "json" else None
                    cells[base].update(found or {suffix: text.decode().strip()})
            _check_whole(archive)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{shard}: cannot be read ({error})") from error
    for base, own in members.items():
        picture = _picture(f"{shard}: {base}", own, reading.path_col)
        if picture is not None:
            yield _Sample(f"{name}/{base}.{picture}", own[picture], cells[base])


def _named_members(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str, str]]:
    """The files of an archive by WebDataset's rule: (member, sample's name, suffix)."""
    from webdataset.tariterators import base_plus_ext

    for info in archive:
        name = info.name.removeprefix("./")
        base, suffix = base_plus_ext(name)
        hidden = any(part.startswith((".", "__")) for part in name.split("/"))
        if info.isfile() and suffix and not hidden:
            yield info, base, suffix


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


def _check_whole(archive: tarfile.TarFile) -> None:
    """Raise tarfile.ReadError where the last header is no end: tarfile itself stops silently."""
    stream = archive.fileobj
    assert stream is not None
    stream.seek(archive.offset)
    if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"damaged at byte {archive.offset}")
