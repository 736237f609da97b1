"""Pictures embedded in Parquet files, of which one row group after the other is in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from imgcls.config.files import check_regular
from imgcls.data.pixels.decode import UnreadableImageError, why_unreadable
from imgcls.data.remote.fetching import RemoteState
from imgcls.data.remote.files import RemoteFile, StoredFile
from imgcls.data.remote.urls import outlives_fork
from imgcls.data.sources.files import file_state
from imgcls.data.table import FileState, ImageStore

CACHE_BYTES = 256 * 2**20


class ParquetFileAt(NamedTuple):
    """A Parquet file, its metadata, and of one behind a URL the state in which these were read."""

    file: StoredFile
    metadata: Any
    state: RemoteState | None


class ParquetImages(ImageStore):
    """Pictures inside Parquet files, read by row groups, of which the last used are kept.

    groups: (file, number of the row group, its first row among all rows) in order of rows.
    """

    def __init__(
        self,
        files: Sequence[ParquetFileAt],
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
        self.outlives_fork = outlives_fork(str(file.file) for file in files)

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
        """The file's time, which is not known of one behind a URL."""
        number, _, _ = self._groups[bisect_right(self._starts, int(self._rows[index])) - 1]
        file = self._files[number].file
        found = None if isinstance(file, RemoteFile) else file_state(file)
        return None if found is None else FileState(None, found.changed_s)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": OrderedDict()}

    def _group(self, number: int) -> Any:
        """The pictures of a row group, an Arrow array."""
        from pyarrow import types

        if number not in self._kept:
            file, group, _ = self._groups[number]
            # opened anew and without threads: neither outlives a fork
            with opened(*self._files[file]) as (parquet, _):
                read = parquet.read_row_group(group, columns=[self._leaf], use_threads=False)
            values = read.column(0).combine_chunks()
            nested = types.is_struct(values.type)
            self._kept[number] = values.field("bytes") if nested else values
            while len(self._kept) > 1 and sum(v.nbytes for v in self._kept.values()) > CACHE_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]


@contextmanager
def opened(
    file: StoredFile, metadata: Any = None, state: RemoteState | None = None
) -> Iterator[tuple[Any, RemoteState | None]]:
    """The ParquetFile of pyarrow, and the state of one behind a URL; what is known may be given.

    Raises OSError, and ArrowException for a file that is none.
    """
    from pyarrow.parquet import ParquetFile

    if not isinstance(file, RemoteFile):
        check_regular(file)
        with ParquetFile(file, metadata=metadata, memory_map=metadata is not None) as parquet:
            yield parquet, None
        return
    state = file.state() if state is None else state
    with file.stream(state) as stream, ParquetFile(stream, metadata=metadata) as parquet:
        yield parquet, state
