"""Where one picture lies, as it is sent to a loader process, and how it is read there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

from PIL import Image

from imgcls.data.pixels.decode import UnreadableImageError, read_content, why_unreadable
from imgcls.data.pixels.memory import picture_in_memory
from imgcls.data.remote.files import stored
from imgcls.data.sources.parquet_images import ParquetFileAt, ParquetImages, opened
from imgcls.data.sources.tar import Member, TarImages


class InFile(NamedTuple):
    """A picture in a file of its own."""

    file: str


class InTar(NamedTuple):
    """A picture in a tar shard: its first byte there, and how many."""

    shard: str
    start: int
    size: int


class InParquet(NamedTuple):
    """A picture in a row of a Parquet file; leaf: the column of its bytes."""

    file: str
    leaf: str
    row: int


class InMemory(NamedTuple):
    """A picture that a program has: see `picture_in_memory`."""

    picture: Any


class Nowhere(NamedTuple):
    """What is no picture, and why."""

    reason: str


Place = InFile | InTar | InParquet | InMemory | Nowhere


def is_there(path: str) -> bool:
    """True for what is there, and for what a folder may hold that cannot be looked into."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


class PlaceReader:
    """Reads pictures as they are encoded; may be sent to a loader process."""

    def __init__(self) -> None:
        # of the file read last, whose row groups are kept
        self._parquet: tuple[str, ParquetImages] | None = None

    def picture(self, place: Place) -> bytes | Image.Image:
        """What is to be decoded: the encoded picture, or one that is in memory. See `content`."""
        return (
            picture_in_memory(place.picture) if isinstance(place, InMemory) else self.content(place)
        )

    def content(self, place: Place) -> bytes:
        """The encoded picture. Raises UnreadableImageError with the reason, and ReadError."""
        assert not isinstance(place, InMemory)
        if isinstance(place, Nowhere):
            raise UnreadableImageError(place.reason)
        if isinstance(place, InTar):
            member = Member(0, place.start, place.size)
            return TarImages([stored(place.shard)], [member], [place.shard]).content(0)
        if isinstance(place, InParquet):
            return self._parquet_images(place).content(place.row)
        try:
            return read_content(Path(place.file))
        except UnreadableImageError:
            if is_there(place.file):
                raise
            raise UnreadableImageError("no such file") from None

    def _parquet_images(self, place: InParquet) -> ParquetImages:
        if self._parquet is None or self._parquet[0] != place.file:
            self._parquet = place.file, _images_of(place.file, place.leaf)
        return self._parquet[1]

    def location(self, place: Place) -> str:
        """Where it lies, for messages about the machine."""
        return getattr(place, "file", getattr(place, "shard", ""))

    def __getstate__(self) -> dict[str, object]:
        return {"_parquet": None}


def _images_of(file: str, leaf: str) -> ParquetImages:
    """The pictures of all rows of a Parquet file. Raises UnreadableImageError, and ReadError."""
    from pyarrow import ArrowException

    place = stored(file)
    try:
        with opened(place) as (parquet, state):
            metadata = parquet.metadata
    except (OSError, ArrowException) as error:
        raise why_unreadable(error, file) from error
    groups, start = [], 0
    for number in range(metadata.num_row_groups):
        groups.append((0, number, start))
        start += metadata.row_group(number).num_rows
    at = ParquetFileAt(place, metadata, state)
    return ParquetImages([at], groups, leaf, range(start), _RowNames(file, start))


class _RowNames(Sequence[str]):
    """Where each row lies, written when it is asked for."""

    def __init__(self, file: str, count: int) -> None:
        self._file = file
        self._count = count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> Sequence[str]: ...

    def __getitem__(self, row: int | slice) -> str | Sequence[str]:
        assert isinstance(row, int)
        return f"{self._file} row {row}"
