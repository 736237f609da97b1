"""Pictures in files of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from imgcls.data.pixels.decode import read_content
from imgcls.data.table import FileState, ImageStore


class FileImages(ImageStore):
    """Pictures in files below a root, or, by an absolute path, anywhere.

    why_missing: what is said of paths that lead to no file; "" where the files were found there,
    and not only named.
    """

    def __init__(self, root: Path, paths: tuple[str, ...], *, why_missing: str = "") -> None:
        self._root = root
        self._paths = paths
        self.why_missing = why_missing

    def content(self, index: int) -> bytes:
        """The picture's file."""
        return read_content(self._root / self._paths[index])

    def head(self, index: int, size: int) -> bytes:
        """The first bytes of the picture's file."""
        return read_content(self._root / self._paths[index], size)

    def location(self, index: int) -> str:
        """The picture's path."""
        return str(self._root / self._paths[index])

    def missing(self) -> list[int]:
        """Rows without a file."""
        if not self.why_missing:
            return []
        # os.path, because pathlib takes five times as long, which 100,000 files make felt
        there = (os.path.isfile(os.path.join(self._root, path)) for path in self._paths)  # noqa: PTH113, PTH118
        return [row for row, is_there in enumerate(there) if not is_there]

    def state(self, index: int) -> FileState | None:
        """The file's size and time."""
        return file_state(self._root / self._paths[index])


def file_state(file: Path) -> FileState | None:
    """A file's size and when it last changed, None for one that is not there.

    The later of both times: copying keeps the one of the content where it is told to, and Windows
    has no other.
    """
    try:
        found = file.stat()
    except OSError:
        return None
    return FileState(found.st_size, max(found.st_mtime, found.st_ctime))


def below_shared_folder(paths: Sequence[Path]) -> tuple[Path, list[str]]:
    """The deepest folder that the files share, and their names below it with forward slashes."""
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    return shared, [path.relative_to(shared).as_posix() for path in paths]
