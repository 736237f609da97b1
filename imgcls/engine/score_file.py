"""Scores on their way to the disk: a NumPy file that is wholly there or not there at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from imgcls.engine.durable import TEMPORARY_PREFIX, sync_folder
from imgcls.errors import OutputError

if TYPE_CHECKING:
    from typing_extensions import Self


class ScoreFile:
    """A float32 `.npy` file of `count` rows, written a batch at a time.

    It takes its name when the `with` block ends well. Rows are written, not mapped: a full disk is
    then an error and not a fatal signal. Raises OutputError when the disk does not take them.
    """

    def __init__(self, file: Path, count: int) -> None:
        self._file = file
        self._count = count
        self._written = 0
        self._temporary = file.with_name(f"{TEMPORARY_PREFIX}{file.name}-{os.getpid()}")
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._temporary.open("wb")
        except OSError as error:
            raise self._output_error(error) from error
        return self

    def append(self, scores: np.ndarray) -> None:
        """Add the rows of a batch: float32 [B, ...], of the same shape behind B every time."""
        assert self._stream is not None
        try:
            if not self._written:
                header = {
                    "descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)),
                    "fortran_order": False,
                    "shape": (self._count, *scores.shape[1:]),
                }
                np.lib.format.write_array_header_1_0(self._stream, header)
            self._stream.write(np.ascontiguousarray(scores, dtype=np.float32).data)
        except OSError as error:
            raise self._output_error(error) from error
        self._written += len(scores)

    def mapped(self) -> np.ndarray:
        """All rows, memory-mapped for reading. No row may be added behind this."""
        assert self._stream is not None
        assert self._written == self._count, f"{self._written} of {self._count} rows"
        try:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise self._output_error(error) from error
        return np.asarray(np.load(self._temporary, mmap_mode="r"))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._stream is not None
        if error is not None:
            with contextlib.suppress(OSError):  # of what is still to be written
                self._stream.close()
            self._temporary.unlink(missing_ok=True)
            return
        try:
            self._stream.close()
            os.replace(self._temporary, self._file)  # noqa: PTH105  replaces on Windows too
            sync_folder(self._file.parent)
        except OSError as failure:
            self._temporary.unlink(missing_ok=True)
            raise self._output_error(failure) from failure

    def _output_error(self, error: OSError) -> OutputError:
        return OutputError(f"{self._file}: cannot be written ({error.strerror})")


@contextlib.contextmanager
def temporary_scores(folder: Path, count: int) -> Iterator[ScoreFile]:
    """A ScoreFile of `count` rows below the folder that is gone, and its rows, with the block.

    The folder is made. Raises OutputError when the disk does not take it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(dir=folder, prefix=TEMPORARY_PREFIX)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error
    with temporary as place, ScoreFile(Path(place) / "scores.npy", count) as file:
        yield file
