"""Parquet: pictures embedded as Hugging Face embeds them, or a table that names picture files.

train-00000-of-00002.parquet       image: struct<bytes, path> or binary;  label: a number or a text
train-00001-of-00002.parquet       (names of numbered classes stand in the metadata)
"""

from __future__ import annotations

import glob
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imgcls.columns.numbered import Numbered
from imgcls.columns.texts import Texts
from imgcls.config.files import check_regular
from imgcls.config.reading import ReadingConfig
from imgcls.data.names import shortened
from imgcls.data.pixels.decode import UnreadableImageError, why_unreadable
from imgcls.data.rows import Rows, column, sample_table
from imgcls.data.sources.cells import Cells
from imgcls.data.sources.files import Below, below_shared_folder, file_state
from imgcls.data.sources.manifest import manifest_table
from imgcls.data.sources.parquet_columns import (
    class_names_of,
    column_texts,
    is_bytes,
    picture_column,
    texts_of,
)
from imgcls.data.splits.words import splits_of_names
from imgcls.data.table import FileState, ImageStore, SampleTable
from imgcls.errors import DataError

_CACHE_BYTES = 256 * 2**20
_LARGE_GROUP_BYTES = 32 * 2**20


class ParquetImages(ImageStore):
    """Pictures inside Parquet files, read by row groups, of which the last used are kept.

    groups: (file, number of the row group, its first row among all rows) in order of rows.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, Any]],
        groups: Sequence[tuple[int, int, int]],
        leaf: str,
        rows: np.ndarray | Sequence[int],
        locations: Sequence[str],
    ) -> None:
        self._files = files
        self._groups = groups
        self._starts = [start for _, _, start in groups]
        self._leaf = leaf
        self._rows = rows
        self._locations = locations
        self._kept: OrderedDict[int, Any] = OrderedDict()

    def content(self, index: int) -> bytes:
        """The embedded bytes."""
        from pyarrow import ArrowException

        row = int(self._rows[index])
        number = bisect_right(self._starts, row) - 1
        try:
            value = self._group(number)[row - self._starts[number]].as_py()
        except (OSError, ArrowException, MemoryError) as error:
            raise why_unreadable(error, self._locations[index]) from error
        if value is None:
            raise UnreadableImageError("the row holds no picture")
        return bytes(value)

    def location(self, index: int) -> str:
        """The file and the row in it."""
        return self._locations[index]

    def state(self, index: int) -> FileState | None:
        """The file's time."""
        file, _, _ = self._groups[bisect_right(self._starts, int(self._rows[index])) - 1]
        found = file_state(Path(self._files[file][0]))
        return None if found is None else FileState(None, found.changed_s)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": OrderedDict()}

    def _group(self, number: int) -> Any:
        """The pictures of a row group, an Arrow array."""
        from pyarrow import types
        from pyarrow.parquet import ParquetFile

        if number not in self._kept:
            file, group, _ = self._groups[number]
            path, metadata = self._files[file]
            # opened anew and without threads: neither outlives a fork
            check_regular(path)
            with ParquetFile(path, metadata=metadata, memory_map=True) as parquet:
                read = parquet.read_row_group(group, columns=[self._leaf], use_threads=False)
            values = read.column(0).combine_chunks()
            nested = types.is_struct(values.type)
            self._kept[number] = values.field("bytes") if nested else values
            while len(self._kept) > 1 and sum(v.nbytes for v in self._kept.values()) > _CACHE_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]


class ParquetSource:
    """One .parquet file, or several by a glob."""

    options = frozenset(
        {"path_col", "label_col", "split_col", "group_col", "fold_col", "root", "group_regex"}
    )

    def matches(self, spec: str) -> bool:
        """True for what ends in .parquet and is there."""
        return spec.lower().endswith(".parquet") and bool(_files(spec))

    def read(self, spec: str, reading: ReadingConfig) -> SampleTable:
        """The rows; pictures are read when they are opened. Raises DataError."""
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise DataError(
                f'{spec}: Parquet is read by pyarrow: pip install "imgcls[parquet]"'
            ) from None
        files = _files(spec)
        try:
            shards = []
            for path in files:
                check_regular(path)
                with ParquetFile(path) as parquet:
                    shards.append(_shard(spec, path, parquet, reading))
        except (OSError, ArrowException) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{spec}: cannot be read ({reason})") from error
        if len({(shard.leaf, tuple(shard.columns)) for shard in shards}) > 1:
            raise DataError(f"{spec}: the files do not have the same columns")
        columns = {
            title: Texts.joined([shard.columns[title] for shard in shards])
            for title in shards[0].columns
        }
        class_names = _same_class_names(spec, shards)
        if class_names is not None:
            known = {str(number): name for number, name in enumerate(class_names)}
            known.update((name, name) for name in class_names)
            label = shards[0].label
            columns[label] = columns[label].mapped(lambda text: known.get(text, ""))
        places = _places(shards)
        if shards[0].leaf is None:
            wanted = reading.model_copy(update={"path_col": shards[0].picture})
            return manifest_table(spec, files[0], Cells(columns, places), wanted)
        return _embedded_table(spec, shards, Cells(columns, places), class_names, reading)


class _Shard(NamedTuple):
    """What is read of a file at once: everything but the pictures' bytes.

    leaf: the column of those bytes, or None when `picture` is a column of paths. names: of the
    embedded pictures. class_names: of numbered classes.
    """

    path: Path
    metadata: Any
    picture: str
    leaf: str | None
    columns: dict[str, Texts]
    names: Texts
    class_names: list[str] | None
    label: str

    @property
    def num_rows(self) -> int:
        return int(self.metadata.num_rows)


def _files(spec: str) -> list[Path]:
    path = Path(spec).expanduser()
    if path.is_file():
        return [path.absolute()]
    return sorted(Path(found).absolute() for found in glob.glob(str(path)))  # noqa: PTH207  any root


def _shard(spec: str, path: Path, parquet: Any, reading: ReadingConfig) -> _Shard:
    from pyarrow import types

    schema = parquet.schema_arrow
    titles = {field.name: field.type for field in schema}
    found = picture_column(spec, path, schema, reading.path_col)
    label = column(spec, titles, reading.label_col, ("label",), "--label-col")
    leaf = found.leaf
    names = Texts.repeated("", parquet.metadata.num_rows)
    if found.names is not None:
        read = parquet.iter_batches(columns=[found.names], use_threads=False)
        names = Texts.of(text for b in read for text in texts_of(b.column(0).field("path")))
    plain = [t for t, k in titles.items() if t != leaf and not (types.is_nested(k) or is_bytes(k))]
    if label not in plain:
        raise DataError(f"{path}: column {label!r} is {titles[label]}, not one label a row")
    columns = {title: _column(path, title, parquet) for title in plain}
    class_names = class_names_of(schema.metadata or {}, label)
    return _Shard(path, parquet.metadata, found.title, leaf, columns, names, class_names, label)


def _column(path: Path, title: str, parquet: Any) -> Texts:
    """A column as texts. Raises as `column_texts`."""

    def batches() -> Iterator[Any]:
        return (b.column(0) for b in parquet.iter_batches(columns=[title], use_threads=False))

    return column_texts(path, title, batches)


def _places(shards: Sequence[_Shard]) -> Numbered:
    """Where each row stands: the file and the number in it."""
    counts = [shard.num_rows for shard in shards]
    words = [f"{shard.path.name} row " for shard in shards]
    files = np.repeat(np.arange(len(shards)), counts)
    numbers = np.arange(len(files)) - np.repeat(np.cumsum([0, *counts[:-1]]), counts)
    return Numbered(Texts.numbered(files, words), numbers)


def _same_class_names(spec: str, shards: Sequence[_Shard]) -> list[str] | None:
    """The names of numbered classes, which a file may have lost. Raises DataError for two sets."""
    told = [shard for shard in shards if shard.class_names is not None]
    for shard in told:
        if shard.class_names != told[0].class_names:
            raise DataError(
                f"{spec}: {told[0].path.name} and {shard.path.name} name the classes differently "
                f"({shortened(told[0].class_names or ())}; {shortened(shard.class_names or ())})"
            )
    return told[0].class_names if told else None


def _embedded_table(
    spec: str,
    shards: Sequence[_Shard],
    cells: Cells,
    class_names: Sequence[str] | None,
    reading: ReadingConfig,
) -> SampleTable:
    root, names = below_shared_folder([shard.path for shard in shards])
    keys = Texts.of(
        f"{name}/{row:06d}" + (f"-{picture}" if picture else "")
        for name, shard in zip(names, shards, strict=True)
        for row, picture in enumerate(shard.names)
    )
    groups: list[tuple[int, int, int]] = []
    start = largest = 0
    for file, shard in enumerate(shards):
        for number in range(shard.metadata.num_row_groups):
            group = shard.metadata.row_group(number)
            groups.append((file, number, start))
            start += group.num_rows
            largest = max(largest, group.total_byte_size)
    columns = dict(cells.columns)
    labels = columns.pop(shards[0].label)
    splits = splits_of_names(names)
    rows = Rows(
        keys,
        labels,
        cells.places,
        None
        if splits is None
        else Texts.joined(
            [Texts.repeated(s, f.num_rows) for s, f in zip(splits, shards, strict=True)]
        ),
        columns,
        class_names,
        _row_group_note(largest, sum(shard.path.stat().st_size for shard in shards)),
    )
    files = [(str(shard.path), shard.metadata) for shard in shards]
    leaf = shards[0].leaf or ""
    return sample_table(
        spec,
        shards[0].path.stem if len(shards) == 1 else shards[0].path.parent.name or "data",
        rows,
        lambda order, keys: ParquetImages(files, groups, leaf, order, Below(root, keys)),
        reading,
    )


def _row_group_note(largest: int, total: int) -> tuple[str, ...]:
    if largest <= _LARGE_GROUP_BYTES or total <= _CACHE_BYTES:
        return ()
    note = (
        f"a picture is read with its whole row group, of up to {largest // 2**20} MiB here; files "
        "written with a row_group_size of 100 are read much faster"
    )
    return (note,)
