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

from imgcls.config.reading import ReadingConfig
from imgcls.data.formats import IMAGE_SUFFIXES
from imgcls.data.rows import SPLIT_WORDS, Rows, sample_table
from imgcls.data.source import SampleTable
from imgcls.data.sources.files import FileImages
from imgcls.errors import DataError

_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})


class FolderSource:
    """A folder of class folders, or of train/ val/ test/ folders with class folders in them."""

    options = frozenset({"group_regex"})

    def matches(self, spec: str) -> bool:
        """True for an existing folder."""
        return Path(spec).expanduser().is_dir()

    def read(self, spec: str, reading: ReadingConfig) -> SampleTable:
        """All pictures below the folder. Raises DataError when they are not a data set."""
        root = Path(spec).expanduser().absolute()
        try:
            rows = _rows(root, spec)
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
        return sample_table(
            spec,
            root.name or "data",
            rows,
            lambda order: FileImages(root, tuple(rows.keys[row] for row in order)),
            reading,
        )


def _rows(root: Path, spec: str) -> Rows:
    by_split = _split_folders(root)
    folders: Sequence[tuple[Path, str]] = by_split or [(root, "")]
    keys: list[str] = []
    labels: list[str] = []
    splits: list[str] = []
    empty: list[str] = []
    others: Counter[str] = Counter()
    below = len(str(root).rstrip(os.sep)) + 1
    for folder, split in folders:
        for class_folder in _subfolders(folder):
            found = [file[below:].replace(os.sep, "/") for file in _files(class_folder, others)]
            if not found:
                empty.append(class_folder.relative_to(root).as_posix())
            keys += found
            labels += [class_folder.name] * len(found)
            splits += [split] * len(found)
    if not keys:
        raise DataError(_nothing_found(root, spec))
    notes = [f"folder {name} has no pictures in it" for name in empty]
    notes += _passed_over(root, [folder for folder, _ in by_split], others)
    return Rows(keys, labels, keys, splits if by_split else None, notes=tuple(notes))


def _split_folders(root: Path) -> list[tuple[Path, str]]:
    """The split folders below the root; [] when its folders are classes."""
    found = [
        (p, SPLIT_WORDS[p.name.lower()]) for p in _subfolders(root) if p.name.lower() in SPLIT_WORDS
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


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122  100,000 times


def _files(folder: Path, others: Counter[str]) -> Iterator[str]:
    """All pictures below a folder; hidden and system files and circular links passed over.

    others: counts the files that are no pictures, by suffix.
    """
    pending = [(str(folder), frozenset({os.path.realpath(folder)}))]
    while pending:
        current, ancestors = pending.pop()
        with os.scandir(current) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(".") or name.lower() in _SYSTEM_FILES:
                    continue
                if entry.is_dir():
                    real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                    if real not in ancestors:
                        pending.append((entry.path, ancestors | {real}))
                elif _is_picture(name):
                    yield entry.path
                else:
                    others[Path(name).suffix.lower() or name] += 1


def _passed_over(root: Path, split_folders: list[Path], others: Counter[str]) -> Iterator[str]:
    """What lies in the folder and belongs to no class."""
    if others:
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))
        yield f"{others.total()} files are no pictures and are passed over: {kinds}"
    if split_folders:
        strange = [p.name for p in _subfolders(root) if p not in split_folders]
        if strange:
            yield f"no split folder, and passed over: {', '.join(strange)}"
    loose = [
        p
        for folder in split_folders or [root]
        for p in folder.iterdir()
        if _is_picture(p.name) and not p.name.startswith(".") and p.is_file()
    ]
    if loose:
        shown = loose[0].relative_to(root).as_posix()
        yield f"{len(loose)} pictures lie in no class folder and are passed over, such as {shown}"


def _nothing_found(root: Path, spec: str) -> str:
    others: Counter[str] = Counter()
    if any(True for _ in _files(root, others)):
        return f"{spec}: has pictures but no class folders; put each class's into its own folder"
    tables = [s for s in (".csv", ".tsv", ".jsonl", ".parquet", ".tar") if others[s]]
    if tables:
        return f"{spec}: has no pictures, but {tables[0]} files; name them instead of the folder"
    suffixes = " ".join(sorted(IMAGE_SUFFIXES))
    return f"{spec}: no pictures found in it; looked for class folders with {suffixes}"
