"""What is computed of pictures and kept on disk: features of a run, decoded pictures of all runs.

A file of features keeps every whole batch through a stop or a kill:

RUN/features/
  made_by     a hash of all that the features follow from
  view-0-0    view V from its P-th picture on, by one sitting of one process: records, one a batch:
  view-V-P    uint32 [pictures n, width D, CRC-32], int64 [n] rows of the table, float32 [n, D]
              features
  fit-0 ...   an npz, one a fold: how far the classifier's fit to them has come

The user's cache folder has decoded pictures, which later runs find:

pictures/
  <hash>/     pixels.bin  entries.bin, see imgcls.data.loading.cache
    .lock     held, together with others, by each process that uses them
"""

from __future__ import annotations

import os
import shutil
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.config.files import check_regular, open_file, read_bytes
from imgcls.storage.durable import remove_folder, remove_parts_in, replacing

FEATURES, PICTURES = "features", "pictures"
_LOCK = ".lock"
_MADE_BY = "made_by"
_HEAD = struct.Struct("<III")


class FeatureFile:
    """Features of pictures one behind the other in one view, a batch at a time."""

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


def feature_file(folder: Path, view: int, begin: int) -> FeatureFile:
    """The file of a view's features from a picture on: its position among those of the view."""
    return FeatureFile(folder / f"view-{view}-{begin}")


def feature_files(folder: Path, view: int) -> list[tuple[int, FeatureFile]]:
    """(begin, file) of all files of a view, by where they begin."""
    found = [
        int(begin)
        for file in folder.glob(f"view-{view}-*")
        if (begin := file.name.rpartition("-")[2]).isdecimal()
    ]
    return [(begin, feature_file(folder, view, begin)) for begin in sorted(found)]


class FitFile:
    """How far a fit has come: named arrays, replaced together."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self, made_by: str) -> dict[str, np.ndarray] | None:
        """The arrays that were written with this hash; None for none, damaged or other ones.

        Raises OSError.
        """
        if not self._file.exists():
            return None
        try:
            with open_file(self._file) as stream, np.load(stream, allow_pickle=False) as found:
                arrays = dict(found)
            is_same = str(arrays.pop(_MADE_BY)) == made_by
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        return arrays if is_same else None

    def write(self, made_by: str, arrays: Mapping[str, Any]) -> None:
        """Keep these arrays in place of the earlier ones. Raises OSError."""
        with replacing(self._file) as stream:
            np.savez(stream, **{**arrays, _MADE_BY: made_by})


def fit_file(run: Path, fold: int) -> FitFile | None:
    """Where a fold's fit is kept, beside the run's features; None where these are not kept.

    Who asks is the only one to write fits in the run. Raises OSError.
    """
    folder = run / FEATURES
    if not folder.is_dir():
        return None
    remove_parts_in(folder)
    return FitFile(folder / f"fit-{fold}")


def feature_folder(run: Path, made_by: str) -> Path:
    """The run's folder for features that follow from `made_by`; others in it are removed.

    Raises OSError.
    """
    folder = run / FEATURES
    note = folder / _MADE_BY
    if not note.exists() or read_bytes(note) != made_by.encode():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        note.write_text(made_by, encoding="ascii")
    return folder


def remove_features(run: Path) -> None:
    """Remove what a run that has ended needs no more."""
    shutil.rmtree(run / FEATURES, ignore_errors=True)


class Hold:
    """A hold on a folder of decoded pictures, which is not evicted while anybody has one.

    It ends with the object, or with the process and those that it has forked. The folder is made
    where it is not there. Where the system has no such locks (Windows removes nothing that is
    mapped into memory) it holds nothing. Raises OSError when the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._descriptor = -1
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            if sys.platform == "win32":
                return
            import fcntl

            try:
                descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
                self._descriptor = descriptor
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                # while it was waited for, the folder may have been evicted
                if _is_at(descriptor, folder):
                    return
            except FileNotFoundError:
                pass
            except OSError:  # a file system without locks
                return
            self.release()

    def release(self) -> None:
        """End the hold."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        self.release()


def _is_at(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), (folder / _LOCK).stat())
    except FileNotFoundError:
        return False


def evict(folder: Path) -> bool:
    """Remove a folder of decoded pictures; False where somebody uses it, or nobody can tell.

    Raises OSError.
    """
    if sys.platform == "win32":
        try:
            remove_folder(folder)
        except PermissionError:
            return False
        return True
    import fcntl

    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        remove_folder(folder)
    finally:
        os.close(descriptor)
    return True
