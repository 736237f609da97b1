"""Pictures in files of their own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from imgcls.data.decode import read_content
from imgcls.data.source import ImageStore


class FileImages(ImageStore):
    """Pictures in files below a root, or, by an absolute path, anywhere."""

    def __init__(self, root: Path, paths: tuple[str, ...]) -> None:
        self._root = root
        self._paths = paths

    def content(self, index: int) -> bytes:
        """The picture's file."""
        return read_content(self._root / self._paths[index])

    def head(self, index: int, size: int) -> bytes:
        """The first bytes of the picture's file."""
        return read_content(self._root / self._paths[index], size)

    def location(self, index: int) -> str:
        """The picture's path."""
        return str(self._root / self._paths[index])


def below_shared_folder(paths: Sequence[Path]) -> tuple[Path, list[str]]:
    """The deepest folder that the files share, and their names below it with forward slashes."""
    shared = Path(os.path.commonpath([path.parent for path in paths]))
    return shared, [path.relative_to(shared).as_posix() for path in paths]
