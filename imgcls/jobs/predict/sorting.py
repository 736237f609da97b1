"""Pictures sorted into a folder for each class: links or copies, and nothing there is replaced.

sorted/
  beetle/      a.jpg -> /photos/a.jpg     a-2.jpg -> /photos/other/a.jpg
  unsure/      where the prediction is flagged, whatever its class
  unlike/
  unreadable/
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from imgcls.config.files import read_bytes
from imgcls.data.loading.stream import Read
from imgcls.data.pixels.decode import UnreadableImageError
from imgcls.data.places import InFile, Nowhere, PlaceReader
from imgcls.errors import ConfigError
from imgcls.results.prediction import UNLIKE, UNSURE, PredictedRow
from imgcls.storage.durable import (
    TEMPORARY_PREFIX,
    file_in_the_way,
    remove_parts_in,
    writing,
)

UNREADABLE = "unreadable"
_KINDS = (UNREADABLE, UNSURE, UNLIKE)
# what Windows, macOS or Linux does not let a name hold
_NO_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


class SortedFolder:
    """A folder for each class below `root`; what is there by a run that was stopped is done.

    copy: whether copies go there, not links. Raises ConfigError for a place that cannot be it.
    """

    def __init__(
        self, root: Path, class_names: Sequence[str], inputs: Sequence[str], *, copy: bool
    ) -> None:
        self._root = root
        self._copy = copy
        names = list(_names([*_KINDS, *class_names]))
        self._by_kind = dict(zip(_KINDS, names, strict=False))
        self._by_class = dict(zip(class_names, names[len(_KINDS) :], strict=True))
        self._reader = PlaceReader()
        self._prepared: set[Path] = set()
        if blocked := file_in_the_way(root):
            raise ConfigError(f"--sort-into {root}: {blocked} is a file, not a folder")
        for spec in inputs:
            folder = Path(spec).expanduser()
            if folder.is_dir() and root.resolve().is_relative_to(folder.resolve()):
                raise ConfigError(
                    f"--sort-into {root}: lies in {spec}, so its pictures would be classified "
                    "too; name a folder outside"
                )

    def add(self, read: Sequence[Read], rows: Sequence[PredictedRow]) -> None:
        """Put the pictures of some rows into their folders.

        Raises OutputError, and ConfigError for a picture that has no file to be linked to.
        """
        for (one, _), row in zip(read, rows, strict=True):
            folder = self._root / self._folder(row)
            if isinstance(one.place, Nowhere):
                continue
            if not isinstance(one.place, InFile):
                if not self._copy:
                    raise ConfigError(
                        f"{one.path}: has no file of its own to be linked to; add --copy"
                    )
                with contextlib.suppress(UnreadableImageError), writing(folder):
                    self._place(folder, Path(one.path).name, self._reader.content(one.place))
            elif os.path.lexists(one.place.file):
                file = Path(one.place.file).absolute()
                with contextlib.suppress(UnreadableImageError), writing(folder):
                    what = self._reader.content(one.place) if self._copy else file
                    self._place(folder, file.name, what)

    def _folder(self, row: PredictedRow) -> str:
        if not row.labels:
            return self._by_kind[UNREADABLE]
        return self._by_class[row.labels[0]] if row.flag is None else self._by_kind[row.flag]

    def _place(self, folder: Path, name: str, what: bytes | Path) -> None:
        if folder not in self._prepared:
            self._prepared.add(folder)
            folder.mkdir(parents=True, exist_ok=True)
            remove_parts_in(folder)  # of a process that was killed
        for candidate in _numbered(name):
            place = folder / candidate
            if not os.path.lexists(place):
                if isinstance(what, Path):
                    place.symlink_to(what)
                else:
                    _write(place, what)
                return
            if _is_same(place, what):
                return


def _names(names: Sequence[str]) -> Iterator[str]:
    """A folder for each name, all different on every system."""
    taken: set[str] = set()
    for name in names:
        plain = _NO_NAME.sub("-", name).strip(". ") or "-"
        free = next(n for n in _numbered(plain) if n.casefold() not in taken)
        taken.add(free.casefold())
        yield free


def _numbered(name: str) -> Iterator[str]:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    return itertools.chain([name], (f"{stem}-{n}{suffix}" for n in itertools.count(2)))


def _is_same(place: Path, what: bytes | Path) -> bool:
    if isinstance(what, Path):
        return place.is_symlink() and os.readlink(place) == str(what)  # noqa: PTH115  the text
    return not place.is_symlink() and place.is_file() and read_bytes(place) == what


def _write(place: Path, content: bytes) -> None:
    """A new file that appears whole, and never in the place of another."""
    temporary = place.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}")
    try:
        temporary.write_bytes(content)
        try:
            os.link(temporary, place)
        except FileExistsError:
            raise
        except OSError:  # a file system without second names
            temporary.rename(place)
    finally:
        temporary.unlink(missing_ok=True)
