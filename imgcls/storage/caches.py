"""A file of computed features that keeps every whole batch through a stop or a kill.

RUN/features/
  made_by     a hash of all that the features follow from
  view-0 ...  records, one a batch: uint32 [pictures n, width D, CRC-32], int64 [n] rows of the
              table, float32 [n, D] features
"""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from imgcls.config.files import check_regular, read_bytes

FEATURES = "features"
_HEAD = struct.Struct("<III")


class FeatureFile:
    """One view's features, a batch at a time."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows int64 [n], features float32 [n, D]) of each batch; what is not whole is cut off.

        Raises OSError.
        """
        if not self._file.exists():
            return
        check_regular(self._file)
        with self._file.open("r+b") as stream:
            while True:
                start = stream.tell()
                head = stream.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    break
                count, width, checksum = _HEAD.unpack(head)
                size = count * (8 + 4 * width)
                # of a damaged head, the size may be anything
                if start + _HEAD.size + size > self._file.stat().st_size:
                    break
                content = stream.read(size)
                if zlib.crc32(content) != checksum:
                    break
                rows = np.frombuffer(content, np.int64, count)
                yield rows, np.frombuffer(content, np.float32, offset=8 * count).reshape(-1, width)
            stream.truncate(start)

    def append(self, rows: np.ndarray, features: np.ndarray) -> None:
        """Add a batch. Raises OSError."""
        content = rows.astype(np.int64).tobytes() + features.astype(np.float32).tobytes()
        head = _HEAD.pack(len(rows), features.shape[1], zlib.crc32(content))
        # the system has all of it when the file is closed, or that raises
        with self._file.open("ab") as stream:
            stream.write(head + content)


def feature_folder(run: Path, made_by: str) -> Path:
    """The run's folder for features that follow from `made_by`; others in it are removed.

    Raises OSError.
    """
    folder = run / FEATURES
    note = folder / "made_by"
    if not note.exists() or read_bytes(note) != made_by.encode():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        note.write_text(made_by, encoding="ascii")
    return folder


def remove_features(run: Path) -> None:
    """Remove what a run that has ended needs no more."""
    shutil.rmtree(run / FEATURES, ignore_errors=True)
