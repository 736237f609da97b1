"""Content hashes of pictures: the sha256 of the encoded bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from imgcls.data.audit.picture import PictureFacts, check
from imgcls.data.audit.scan import scan
from imgcls.data.pixels.decode import DecodeSettings
from imgcls.data.table import ImageStore, SampleTable

# clocks of a machine and of its file server differ
_CLOCK_MARGIN_S = 3600.0


def digests_of(table: SampleTable, rows: Sequence[int], workers: int | str = "auto") -> list[str]:
    """The sha256 of each of these rows, in hex, "" for one that cannot be read.

    Raises ReadError where the machine fails, WorkerError where a reading process dies.
    """
    if not len(rows):
        return []
    return [facts.digest.hex() for facts in _scanned(table, rows, _digest, workers)]


def readable(table: SampleTable, rows: Sequence[int], workers: int | str = "auto") -> list[bool]:
    """Whether each of these rows is a whole picture. Raises as `digests_of`."""
    if not len(rows):
        return []
    return [not facts.reason for facts in _scanned(table, rows, check, workers)]


def changed_since(images: ImageStore, row: int, since_s: float | None) -> bool:
    """False where the file system says that row `row` is as it was at `since_s`, without reading.

    Its file then has neither been written nor put there since, an hour's margin for clocks
    included. since_s: seconds since 1970; None knows nothing.
    """
    state = None if since_s is None else images.state(row)
    return since_s is None or state is None or state.changed_s > since_s - _CLOCK_MARGIN_S


def _scanned(
    table: SampleTable,
    rows: Sequence[int],
    look: Callable[[bytes, DecodeSettings], PictureFacts],
    workers: int | str,
) -> Iterator[PictureFacts]:
    images = table.select(np.asarray(rows, dtype=np.int64)).images
    return scan(images, len(rows), look, workers=0 if table.defaults.in_memory else workers)


def _digest(content: bytes, _settings: DecodeSettings) -> PictureFacts:
    return PictureFacts(hashlib.sha256(content).digest())
