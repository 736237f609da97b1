"""Parquet: pictures embedded as Hugging Face embeds them, or a table that names picture files.

train-00000-of-00002.parquet       image: struct<bytes, path> or binary;  label: a number or a text
train-00001-of-00002.parquet       (names of numbered classes stand in the metadata)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imgcls.columns.numbered import Numbered
from imgcls.columns.texts import Texts
from imgcls.config.reading import ReadingConfig
from imgcls.data.names import shortened
from imgcls.data.remote.fetching import RemoteError, RemoteState
from imgcls.data.remote.files import StoredFile, below_shared, named_files, notes_on
from imgcls.data.remote.urls import is_remote, without_query
from imgcls.data.rows import Rows, column, sample_table
from imgcls.data.sources.cells import Cells
from imgcls.data.sources.files import Below
from imgcls.data.sources.manifest import manifest_table
from imgcls.data.sources.parquet_columns import (
    class_names_of,
    column_texts,
    is_bytes,
    picture_column,
    texts_of,
)
from imgcls.data.sources.parquet_images import (
    CACHE_BYTES,
    ParquetFileAt,
    ParquetImages,
    opened,
)
from imgcls.data.splits.words import splits_of_names
from imgcls.data.table import SampleTable
from imgcls.errors import DataError

_LARGE_GROUP_BYTES = 32 * 2**20
# as much is held for a single picture, and Arrow's columns end there
_LARGEST_GROUP_BYTES = 2**31


class ParquetSource:
    """One .parquet file, or several by a glob."""

    options = frozenset(
        {"path_col", "label_col", "split_col", "group_col", "fold_col", "root", "group_regex"}
    )

    def matches(self, spec: str) -> bool:
        """True for what ends in .parquet and is there; a URL's, `read` finds out."""
        ending = without_query(spec).lower().endswith(".parquet")
        return ending and (is_remote(spec) or bool(_files(spec)))

    def read(self, spec: str, reading: ReadingConfig) -> SampleTable:
        """The rows; pictures are read when they are opened. Raises DataError."""
        try:
            from pyarrow import ArrowException
        except ImportError:
            raise DataError(
                f'{spec}: Parquet is read by pyarrow: pip install "imgcls[parquet]"'
            ) from None
        files = _files(spec)
        if not files:
            raise DataError(f"{spec}: no such file")
        try:
            shards = []
            for path in files:
                with opened(path) as (parquet, state):
                    shards.append(_shard(spec, path, parquet, state, reading))
        except RemoteError as error:
            raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
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

    path: StoredFile
    metadata: Any
    state: RemoteState | None
    picture: str
    leaf: str | None
    columns: dict[str, Texts]
    names: Texts
    class_names: list[str] | None
    label: str

    @property
    def num_rows(self) -> int:
        return int(self.metadata.num_rows)


def _files(spec: str) -> list[StoredFile]:
    path = Path(spec).expanduser()
    # a file of that very name comes before what it would find as a pattern
    return [path.absolute()] if path.is_file() else named_files(spec)


def _shard(
    spec: str, path: StoredFile, parquet: Any, state: RemoteState | None, reading: ReadingConfig
) -> _Shard:
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
    return _Shard(
        path, parquet.metadata, state, found.title, leaf, columns, names, class_names, label
    )


def _column(path: StoredFile, title: str, parquet: Any) -> Texts:
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
    root, names = below_shared(spec, [shard.path for shard in shards])
    keys = Texts.of(
        f"{name}/{row:06d}" + (f"-{picture}" if picture else "")
        for name, shard in zip(names, shards, strict=True)
        for row, picture in enumerate(shard.names)
    )
    groups: list[tuple[int, int, int]] = []
    start = largest = total = 0
    for file, shard in enumerate(shards):
        for number in range(shard.metadata.num_row_groups):
            group = shard.metadata.row_group(number)
            groups.append((file, number, start))
            start += group.num_rows
            largest = max(largest, group.total_byte_size)
            total += group.total_byte_size
    if largest > _LARGEST_GROUP_BYTES:
        raise DataError(
            f"{spec}: a picture is read with its whole row group, of up to {largest / 2**30:,.1f} "
            "GiB here; write it again with a row_group_size of 100"
        )
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
        (*_row_group_note(largest, total), *notes_on(shard.state for shard in shards)),
    )
    files = [ParquetFileAt(shard.path, shard.metadata, shard.state) for shard in shards]
    leaf = shards[0].leaf or ""
    return sample_table(
        spec,
        shards[0].path.stem if len(shards) == 1 else shards[0].path.parent.name or "data",
        rows,
        lambda order, keys: ParquetImages(files, groups, leaf, order, Below(root, keys)),
        reading,
    )


def _row_group_note(largest: int, total: int) -> tuple[str, ...]:
    if largest <= _LARGE_GROUP_BYTES or total <= CACHE_BYTES:
        return ()
    note = (
        f"a picture is read with its whole row group, of up to {largest // 2**20} MiB here; files "
        "written with a row_group_size of 100 are read much faster"
    )
    return (note,)
