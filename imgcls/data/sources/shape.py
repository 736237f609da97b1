"""Finds split folders and their class folders by how folders are nested."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from imgcls.data.sources.annotated import annotated
from imgcls.data.sources.tree import PICTURE_FOLDERS, Folder
from imgcls.data.splits.words import splits_of


@dataclass(frozen=True)
class SplitFolder:
    """A split's folder, and the one, itself or below, that has the class folders."""

    folder: Folder
    split: str
    place: Folder

    @cached_property
    def told(self) -> list[tuple[str, str]] | None:
        """Its pictures and their classes by a table among them, None where folders are classes."""
        if self.place.classes():
            return None
        below = None if self.place is self.folder else annotated(self.place, self.split)
        return annotated(self.folder, self.split) if below is None else below


def place_of(folder: Folder) -> Folder:
    """Below a split's folder, past `seg_train/seg_train` and `train/images`."""
    while not folder.pictures and len(folder.classes()) == 1:
        [only] = folder.classes()
        same = only.name.lower() == folder.name.lower()
        if not same and only.name.lower() not in PICTURE_FOLDERS:
            break
        folder = only
    return folder


def is_heap(folder: Folder) -> bool:
    """True for pictures of all classes in one folder, `images` or the like."""
    return bool(folder.pictures) and folder.name.lower() in PICTURE_FOLDERS


def splits_inside(top: Folder) -> dict[str, str | None]:
    """The names of the folders in it, and the split that each means."""
    return splits_of([folder.name for folder in top.classes()])


def have_splits_inside(tops: list[Folder]) -> bool:
    """True for beetle/train beetle/test wasp/train wasp/test."""
    inside = [list(splits_inside(top).values()) for top in tops]
    return (
        not any(top.pictures for top in tops)
        and all(splits and None not in splits for splits in inside)
        and all(len(splits) == len(set(splits)) for splits in inside)
        and len({split for splits in inside for split in splits}) > 1
    )
