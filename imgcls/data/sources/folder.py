"""Image folders: one folder of pictures a class, perhaps below train/, val/ and test/.

photos/                      photos/
  beetle/  a.jpg  b.jpg        train/  beetle/  wasp/
  wasp/    c.jpg               val/    beetle/  wasp/     (or valid/, validation/)
                               test/   beetle/
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from imgcls.data.decode import read_content
from imgcls.data.source import ImageStore, SampleTable
from imgcls.errors import DataError

IMAGE_SUFFIXES = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".jfif",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pnm",
        ".jp2",
    ]
)
SPLIT_FOLDERS = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})


class FolderImages(ImageStore):
    """Pictures in files below a root."""

    def __init__(self, root: Path, keys: tuple[str, ...]) -> None:
        self._root = root
        self._keys = keys

    def content(self, index: int) -> bytes:
        """The picture's file."""
        return read_content(self._root / self._keys[index])

    def location(self, index: int) -> str:
        """The picture's path."""
        return str(self._root / self._keys[index])


class FolderSource:
    """A folder of class folders, or of train/ val/ test/ folders with class folders in them."""

    def matches(self, spec: str) -> bool:
        """True for an existing folder."""
        return Path(spec).expanduser().is_dir()

    def read(self, spec: str) -> SampleTable:
        """All pictures below the folder. Raises DataError when they are not a data set."""
        root = Path(spec).expanduser().absolute()
        by_split = _split_folders(root)
        rows: list[tuple[str, str, str | None]] = []
        empty: list[str] = []
        folders: Sequence[tuple[Path, str | None]] = by_split or [(root, None)]
        for folder, split in folders:
            for class_folder in _subfolders(folder):
                found = [p.relative_to(root).as_posix() for p in _pictures(class_folder)]
                if not found:
                    empty.append(class_folder.relative_to(root).as_posix())
                rows.extend((key, class_folder.name, split) for key in found)
        if not rows:
            raise DataError(_nothing_found(root, spec))
        rows.sort()
        class_names = tuple(sorted({label for _, label, _ in rows}))
        _check_classes(spec, class_names, rows)
        position = {name: index for index, name in enumerate(class_names)}
        keys = tuple(key for key, _, _ in rows)
        return SampleTable(
            name=root.name or "data",
            keys=keys,
            labels=np.array([position[label] for _, label, _ in rows], dtype=np.int64),
            class_names=class_names,
            images=FolderImages(root, keys),
            splits=tuple(split for _, _, split in rows) if by_split else None,
            notes=_notes(class_names, rows, empty, given_splits=bool(by_split)),
        )


def _split_folders(root: Path) -> list[tuple[Path, str]]:
    """The split folders below the root; [] when its folders are classes."""
    found = [
        (p, SPLIT_FOLDERS[p.name.lower()])
        for p in _subfolders(root)
        if p.name.lower() in SPLIT_FOLDERS
    ]
    # a class may happen to be called "test": splits have class folders, classes have pictures
    found = [(p, split) for p, split in found if _subfolders(p)]
    counts = Counter(split for _, split in found)
    for split, count in counts.items():
        if count > 1:
            names = ", ".join(p.name for p, s in found if s == split)
            raise DataError(f"{root}: {names} all mean the {split} split; keep one of them")
    return found


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _pictures(folder: Path) -> Iterator[Path]:
    """All pictures below a folder; hidden and system files and circular links passed over."""
    pending = [(str(folder), frozenset({os.path.realpath(folder)}))]
    while pending:
        current, ancestors = pending.pop()
        with os.scandir(current) as entries:
            for entry in entries:
                name = entry.name.lower()
                if name.startswith(".") or name in _SYSTEM_FILES:
                    continue
                if entry.is_dir():
                    real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                    if real not in ancestors:
                        pending.append((entry.path, ancestors | {real}))
                elif os.path.splitext(name)[1] in IMAGE_SUFFIXES:  # noqa: PTH122  100,000 times
                    yield Path(entry.path)


def _check_classes(
    spec: str, class_names: tuple[str, ...], rows: list[tuple[str, str, str | None]]
) -> None:
    if len(class_names) == 1:
        raise DataError(
            f"{spec}: only one class, {class_names[0]!r}; a classifier needs at least two class "
            "folders with pictures"
        )
    trained = {label for _, label, split in rows if split == "train"}
    if not trained:
        return
    for split in ("val", "test"):
        extra = sorted({label for _, label, s in rows if s == split} - trained)
        if extra:
            raise DataError(
                f"{spec}: {split}/ has class {', '.join(map(repr, extra))}, which train/ has not; "
                "add training pictures or take the folder away"
            )


def _notes(
    class_names: tuple[str, ...],
    rows: list[tuple[str, str, str | None]],
    empty: list[str],
    *,
    given_splits: bool,
) -> tuple[str, ...]:
    notes = [f"folder {name} has no pictures in it" for name in empty]
    folded: dict[str, str] = {}
    for name in class_names:
        twin = folded.setdefault(name.strip().casefold(), name)
        if twin != name:
            notes.append(f"classes {twin!r} and {name!r} differ only by case or spaces")
    if given_splits:
        present = {(split, label) for _, label, split in rows}
        for split in sorted({split for split, _ in present if split}):
            absent = [name for name in class_names if (split, name) not in present]
            if absent:
                notes.append(f"the {split} split has no pictures of {', '.join(absent)}")
    return tuple(notes)


def _nothing_found(root: Path, spec: str) -> str:
    if any(True for _ in _pictures(root)):
        return f"{spec}: has pictures but no class folders; put each class's into its own folder"
    suffixes = " ".join(sorted(IMAGE_SUFFIXES))
    return f"{spec}: no pictures found in it; looked for class folders with {suffixes}"
