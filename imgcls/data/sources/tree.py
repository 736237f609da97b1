"""The folders below one, and the pictures in them: one walk, then no more disk.

Left out, and counted: what systems put beside pictures (thumbnails, recycle bins, resource forks,
hidden files), and the masks of a segmentation beside the pictures that they belong to.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from imgcls.data.pixels.decode import UnreadableImageError, is_of_machine, why_unreadable
from imgcls.data.pixels.formats import IMAGE_SUFFIXES
from imgcls.errors import ReadError

# Synology, QNAP, Windows, macOS, Linux, Python; what begins with a dot is hidden in any case
_SYSTEM_FOLDERS = frozenset(
    {
        "@eadir", "@tmp", "@recycle", "@recently-snapshot", "@__thumb", "@sharesnap", "@sharebin",
        "#recycle", "#snapshot", "$recycle.bin", "recycler", "recycled",
        "system volume information", "__macosx", "network trash folder", "temporary items",
        "thevolumesettingsfolder", "lost+found", "__pycache__",
    }
)  # fmt: skip
_SYSTEM_FILES = frozenset(
    {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"}
)
_CHKDSK = re.compile(r"found\.\d{3}")
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet", ".tar")
PICTURE_FOLDERS = frozenset({"images", "image", "imgs", "img", "pictures", "jpegimages"})
MASK_FOLDERS = frozenset(
    {
        "masks", "mask", "labels", "label", "annotations", "annotation", "segmentations",
        "segmentation", "segmentationclass", "segmentationobject", "trimaps", "groundtruth",
        "ground_truth", "ground truth", "gt",
    }
)  # fmt: skip
_MASK_FILE = re.compile(r"(.+?)[_-](?:mask|segmentation)(?:[_-]?\d+)?")


@dataclass
class LeftOut:
    """What belongs to no class: files by the system's folder or name, by suffix, and masks.

    system: `@eaDir` -> how many files. others: suffix -> how many. masks: `masks` -> how many.
    examples: suffix -> one such file.
    """

    system: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    masks: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Folder:
    """A folder; `pictures` are the paths of those right in it, `files` the names of all else."""

    path: str
    name: str
    folders: list[Folder] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)

    def all_pictures(self) -> Iterator[str]:
        """The paths of all pictures at any depth."""
        pending = [self]
        while pending:
            folder = pending.pop()
            yield from folder.pictures
            pending += folder.folders

    def has_pictures(self) -> bool:
        """True where there is one at any depth."""
        return any(True for _ in self.all_pictures())

    def classes(self) -> list[Folder]:
        """The folders right in it that have pictures."""
        return [folder for folder in self.folders if folder.has_pictures()]


def walk(path: str, left_out: LeftOut) -> Folder:
    """The folder and all below it; links are followed, circles passed over. Raises OSError."""
    root = Folder(path, os.path.basename(path))  # noqa: PTH119  100,000 times
    pending = [(root, frozenset({os.path.realpath(path)}))]
    while pending:
        folder, ancestors = pending.pop()
        for found in _look_into(folder.path, ancestors, left_out):
            if found.real is not None:
                folder.folders.append(Folder(found.path, found.name))
                pending.append((folder.folders[-1], ancestors | {found.real}))
            elif found.is_picture:
                folder.pictures.append(found.path)
            else:
                folder.files.append(found.name)
    return root


def pictures_below(
    path: str, left_out: LeftOut
) -> Iterator[tuple[str, UnreadableImageError | None]]:
    """The paths of all pictures below a folder, in the order of their texts, one at a time.

    A folder in it that may not be looked into comes itself, with the reason. Only the names in the
    folders on the way to it are held. Raises OSError for `path` itself, ReadError where the machine
    fails.
    """

    def names_in(folder: str, ancestors: frozenset[str]) -> tuple[dict[str, str], Iterator[str]]:
        """(true paths of the folders in it, their names with "/" behind and those of pictures)."""
        entries = _look_into(folder, ancestors, left_out)
        real: dict[str, str] = {}
        names: list[str] = []
        for entry in entries:
            if entry.real is not None:
                real[f"{entry.name}/"] = entry.real
            elif entry.is_picture:
                names.append(entry.name)
        # as the texts of whole paths sort
        return real, iter(sorted([*real, *names]))

    above = frozenset({os.path.realpath(path)})
    pending = [(path, above, *names_in(path, above))]
    while pending:
        folder, ancestors, folders, names = pending[-1]
        name = next(names, None)
        if name is None:
            pending.pop()
        elif name in folders:
            inner, ancestors = os.path.join(folder, name[:-1]), ancestors | {folders[name]}  # noqa: PTH118
            try:
                pending.append((inner, ancestors, *names_in(inner, ancestors)))
            except OSError as error:
                reason = why_unreadable(error, inner)
                if isinstance(reason, ReadError):
                    raise reason from error
                yield inner, reason
        else:
            yield os.path.join(folder, name), None  # noqa: PTH118  100,000 times


class _Entry(NamedTuple):
    """What lies in a folder; real: the true path of a folder, None for a file."""

    path: str
    name: str
    real: str | None = None
    is_picture: bool = False


def _look_into(path: str, ancestors: frozenset[str], left_out: LeftOut) -> Iterator[_Entry]:
    """What lies right in a folder by its name, but for what is left out. Raises OSError."""
    with os.scandir(path) as found:
        # no more is held of each: the system's own entries are five times as large
        links = {entry.name: entry.is_symlink() if _is_folder(entry) else None for entry in found}
    inside = {name.lower() for name, link in links.items() if link is not None}
    for name in sorted(links):
        inner = os.path.join(path, name)  # noqa: PTH118  100,000 times
        if (is_link := links[name]) is not None:
            if _is_system_folder(name):
                left_out.system[name] += _count(inner)
            elif name.lower() in MASK_FOLDERS and inside & PICTURE_FOLDERS:
                left_out.masks[name] += _count(inner)
            else:
                real = os.path.realpath(inner) if is_link else inner
                if real not in ancestors:
                    yield _Entry(inner, name, real)
        elif is_system_file(name):
            left_out.system["._*" if name.startswith("._") else name] += 1
        elif not is_picture(name):
            suffix = suffix_of(name)
            left_out.others[suffix] += 1
            left_out.examples.setdefault(suffix, inner)
            yield _Entry(inner, name)
        elif _is_mask(name, links):
            left_out.masks["*_mask"] += 1
        else:
            yield _Entry(inner, name, is_picture=True)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """True for a folder and a link to one; a link into what may not be looked into is a file.

    Raises OSError where the machine fails.
    """
    try:
        return entry.is_dir()
    except OSError as error:
        if is_of_machine(error):
            raise
        return False


def is_picture(name: str) -> bool:
    """True for a name with a picture's suffix."""
    return suffix_of(name) in IMAGE_SUFFIXES


def suffix_of(name: str) -> str:
    """The suffix in lower case, "" without one."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  pathlib takes five times as long


def is_system_path(name: str) -> bool:
    """True for a path, with forward slashes, that only a system has put there."""
    *folders, file = name.split("/")
    return is_system_file(file) or any(map(_is_system_folder, folders))


def is_system_file(name: str) -> bool:
    """True for a hidden file and for those that Windows and macOS keep beside pictures."""
    return name.startswith(".") or name.lower() in _SYSTEM_FILES


def _is_system_folder(name: str) -> bool:
    lowered = name.lower()
    return lowered.startswith(".") or lowered in _SYSTEM_FOLDERS or bool(_CHKDSK.fullmatch(lowered))


def _is_mask(name: str, names: Container[str]) -> bool:
    """True for `a_mask.png` and `a_mask_1.png` where `a` lies beside it."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122  100,000 times
    match = _MASK_FILE.fullmatch(stem)
    return match is not None and any(
        match[1] + other in names for other in (suffix, ".png", ".jpg", ".jpeg", ".tif", ".bmp")
    )


def _count(path: str) -> int:
    """How many files lie below; what may not be looked into counts as none."""
    return sum(len(files) for _, _, files in os.walk(path))
