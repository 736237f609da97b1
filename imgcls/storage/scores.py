"""Scores as a NumPy file that is written a batch at a time and read memory-mapped."""

from __future__ import annotations

import contextlib
import gc
import os
import tempfile
import tokenize
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from imgcls.config.files import check_regular
from imgcls.storage.durable import TEMPORARY_PREFIX, writing

if TYPE_CHECKING:
    from typing_extensions import Self

# what NumPy answers to a damaged header
_NO_ARRAY = (
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    SyntaxError,
    OverflowError,
    tokenize.TokenError,
)


class ScoreFile:
    """A float32 `.npy` file of `count` rows, written a batch at a time; gone when the block fails.

    It has its name from the start, so it belongs into a folder that is still being staged. Rows
    are written, not mapped: a full disk is then an error and not a fatal signal. Raises OutputError
    when the disk does not take them.
    """

    def __init__(self, file: Path, count: int) -> None:
        self._file = file
        self._count = count
        self._written = 0
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Self:
        with writing(self._file):
            self._stream = self._file.open("wb")
        return self

    def append(self, scores: np.ndarray) -> None:
        """Add the rows of a batch: float32 [B, ...], of the same shape behind B every time."""
        assert self._stream is not None
        with writing(self._file):
            if not self._written:
                header = {
                    "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
                    "fortran_order": False,
                    "shape": (self._count, *scores.shape[1:]),
                }
                np.lib.format.write_array_header_1_0(self._stream, header)
            self._stream.write(np.ascontiguousarray(scores, dtype=np.float32).data)
        self._written += len(scores)

    def mapped(self) -> np.ndarray:
        """All rows, memory-mapped for reading. No row may be added behind this."""
        assert self._stream is not None
        assert self._written == self._count, f"{self._written} of {self._count} rows"
        with writing(self._file):
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self._stream.close()
        return np.asarray(np.lib.format.open_memmap(self._file, mode="r"))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._stream is not None
        if error is None:
            with writing(self._file):
                self._stream.close()
            return
        with contextlib.suppress(OSError):
            self._stream.close()
        with contextlib.suppress(OSError):  # Windows keeps what is mapped
            self._file.unlink()


def read_scores(file: Path) -> np.ndarray:
    """The rows of a finished file, memory-mapped for reading: floats [N, C].

    Raises OSError when it cannot be read, ValueError for anything but such an array. Nothing is
    unpickled.
    """
    check_regular(file)
    try:
        scores = np.lib.format.open_memmap(file, mode="r")
    except _NO_ARRAY as error:
        raise ValueError(f"{file.name}: is no whole NumPy array") from error
    if scores.dtype.kind != "f" or scores.ndim != 2:  # noqa: PLR2004  pictures and classes
        raise ValueError(f"{file.name}: holds {scores.dtype} {list(scores.shape)}, no scores")
    return scores


@contextlib.contextmanager
def temporary_scores(folder: Path, count: int) -> Iterator[ScoreFile]:
    """A ScoreFile of `count` rows below the folder that is gone, and its rows, with the block.

    No array of its rows may be kept. Raises OutputError when the disk does not take it.
    """
    with writing(folder):
        temporary = tempfile.TemporaryDirectory(dir=folder, prefix=TEMPORARY_PREFIX)
    with temporary as place, ScoreFile(Path(place) / "scores.npy", count) as file:
        yield file
        gc.collect()  # what still maps it, in a circle of objects
