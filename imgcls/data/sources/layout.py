"""Tells class folders from split folders, and lists their pictures.

The names decide (train, Testing, seg_val, ...), and so does the shape: splits have the same folders
in them, a class has pictures. Where both readings are possible nothing is guessed: the error gives
both and the option that chooses, --layout.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from imgcls.data.names import shortened
from imgcls.data.sources.annotated import annotated, tables_in
from imgcls.data.sources.shape import (
    SplitFolder,
    have_splits_inside,
    is_heap,
    place_of,
    splits_inside,
)
from imgcls.data.sources.tree import PICTURE_FOLDERS, Folder
from imgcls.data.splits.words import read_as_splits, split_of, splits_of
from imgcls.errors import DataError

# a data set has this many splits; more folders with the same folders in them are classes
_MOST_SPLITS = 3
_FOLD = re.compile(r"(?:.*[ _-])?(?:cv|fold|split|part)[ _-]?\d+", re.IGNORECASE)
_CLASSES = "--layout classes"
_SPLITS = "--layout splits"


@dataclass
class Layout:
    """Paths of pictures with the label and split of each; splits are "" where none are given."""

    paths: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, folder: Folder, label: str, split: str = "") -> None:
        """All pictures of a folder, as of one class."""
        found = list(folder.all_pictures())
        self.paths += found
        self.labels += [label] * len(found)
        self.splits += [split] * len(found)

    def add_told(self, told: Sequence[tuple[str, str]], split: str = "") -> None:
        """Pictures whose classes a table among them gives."""
        self.paths += [path for path, _ in told]
        self.labels += [label for _, label in told]
        self.splits += [split] * len(told)


def lay_out(root: Folder, spec: str, chosen: Literal["classes", "splits"] | None) -> Layout:
    """The pictures below `root` with their classes and splits; `chosen` is --layout.

    Raises DataError where they have no classes, or where it is not clear which folders these are.
    """
    layout = Layout()
    place = root if chosen == "classes" else _unwrapped(root, layout)
    tops = place.classes()
    if not tops or (len(tops) == 1 and is_heap(tops[0])):
        if (told := annotated(place)) is not None:
            layout.add_told(told)
            return layout
        raise DataError(
            f"{spec}: has pictures but no class folders; put each class's into its own folder, or "
            f"name the pictures and their classes in a table{tables_in(place, *tops)}"
        )
    split_by = splits_of([folder.name for folder in tops])
    named = [
        SplitFolder(folder, split, place_of(folder))
        for folder in tops
        if (split := split_by[folder.name]) is not None
    ]
    if chosen == "splits" and not named:
        raise DataError(
            f"{spec}: {_SPLITS} wants folders whose names have train, val or test in them; there "
            f"are {shortened(folder.name for folder in tops)}"
        )
    if chosen == "splits" or (chosen is None and _are_splits(spec, place, tops, named)):
        _read_splits(spec, place, named, layout)
    else:
        by_split = chosen is None and have_splits_inside(tops)
        if by_split:
            _refuse_classes_below(spec, tops)
        _read_classes(place, layout, by_split=by_split)
    return layout


def _unwrapped(root: Folder, layout: Layout) -> Folder:
    """The folder that the classes or splits lie in: below ones that hold a single folder."""
    place = root
    while len(place.classes()) == 1 and not place.pictures:
        [only] = place.classes()
        if only.pictures or split_of(only.name) is not None:
            break
        place = only
    if place is not root:
        inside = os.path.relpath(place.path, root.path).replace(os.sep, "/")
        layout.notes.append(f"read from {inside}/, as there is no other folder with pictures")
    return place


def _are_splits(spec: str, root: Folder, tops: list[Folder], named: list[SplitFolder]) -> bool:
    """Whether the top folders are splits. Raises DataError where they may well be either."""
    if not named:
        _refuse_twins(spec, tops)
        return False
    several = len({split.split for split in named}) > 1
    if not any(one.place.classes() or one.told is not None for one in named):
        if several or len(named) == len(tops):
            _refuse_flat(spec, root, named)
        return False  # a class that happens to be called test
    if several or len(named) == len(tops):
        return True
    return _refuse_odd_one(spec, tops, named)


def _refuse_twins(spec: str, tops: list[Folder]) -> None:
    """Two or three folders with the same folders in them look like splits by other names.

    So do any number of folds.
    """
    inside = [{folder.name for folder in place_of(top).classes()} for top in tops]
    if (
        len(tops) < 2  # noqa: PLR2004
        or (len(tops) > _MOST_SPLITS and not all(_FOLD.fullmatch(top.name) for top in tops))
        or any(top.pictures for top in tops)
        or len(inside[0]) < 2  # noqa: PLR2004  one folder in each says nothing
        or any(names != inside[0] for names in inside)
        or have_splits_inside(tops)
    ):
        return
    outer, inner = shortened(top.name for top in tops), shortened(sorted(inside[0]))
    raise DataError(
        f"{spec}: {outer} have the same folders in them, {inner}. If the classes are {outer}, add "
        f"{_CLASSES}; if they are {inner}, name the outer folders train, val and test, or give a "
        "table"
    )


def _refuse_flat(spec: str, root: Folder, named: list[SplitFolder]) -> NoReturn:
    folders = shortened(f"{split.folder.name}/" for split in named)
    tables = tables_in(root, *(split.folder for split in named))
    raise DataError(
        f"{spec}: {folders} have pictures but no class folders in them. As splits they need a "
        f"folder for each class, or a table that says each picture's class{tables}; if these names "
        f"are the classes themselves, add {_CLASSES}"
    )


def _refuse_odd_one(spec: str, tops: list[Folder], named: list[SplitFolder]) -> NoReturn:
    own = shortened(split.folder.name for split in named)
    others = shortened(top.name for top in tops if split_of(top.name) is None)
    inner = shortened(folder.name for folder in named[0].place.classes())
    raise DataError(
        f"{spec}: {own} may be a class beside {others}, or the {named[0].split} split with the "
        f"classes {inner}. Add {_CLASSES} for the first, {_SPLITS} for the second, which passes "
        f"over {others}"
    )


def _refuse_classes_below(spec: str, tops: list[Folder]) -> None:
    """Raise DataError for color/train/beetle: what is above the splits is hardly the class."""
    parts = [part for top in tops for part in top.classes()]
    below = sorted({folder.name for part in parts for folder in place_of(part).classes()})
    if len(below) > 1 and not any(part.pictures for part in parts):
        outer, first = shortened(top.name for top in tops), tops[0].name
        raise DataError(
            f"{spec}: {outer} have splits in them, and these the folders {shortened(below)}. If "
            f"the classes are {outer}, add {_CLASSES} or give a table; if they are "
            f"{shortened(below)}, name one folder as DATA, such as {first}"
        )


def _read_classes(place: Folder, layout: Layout, *, by_split: bool) -> None:
    for folder in place.classes():
        if by_split:
            split_by = splits_inside(folder)
            for part in folder.classes():
                layout.add(part, folder.name, split_by[part.name] or "")
        else:
            layout.add(folder, folder.name)
    inner = [part for top in place.classes() for part in top.classes()]
    parts = [part for part in inner if part.name.lower() not in PICTURE_FOLDERS]
    if by_split:
        layout.notes.append("the folders in each class are read as its splits")
    elif parts:
        example = os.path.relpath(parts[0].path, place.path).replace(os.sep, "/")
        layout.notes.append(f"folders in the classes are parts of them, such as {example}")
    layout.notes += _loose(place.path, place.pictures)
    layout.notes += _empty(place, place)


def _read_splits(spec: str, root: Folder, named: list[SplitFolder], layout: Layout) -> None:
    _refuse_same(spec, named)
    trained = {
        folder.name for one in named if one.split == "train" for folder in one.place.classes()
    }
    loose = list(root.pictures)
    for one in named:
        inside = one.place.classes()
        if one.told is not None:
            layout.add_told(one.told, one.split)
            continue
        if not inside:
            layout.notes.append(
                f"{one.folder.name}/ has no class folders, so nothing says what its "
                f"{len(one.place.pictures)} pictures show: they are passed over"
            )
            continue
        _refuse_strangers(spec, one, trained)
        for folder in inside:
            layout.add(folder, folder.name, one.split)
        loose += one.place.pictures
        layout.notes += _empty(root, one.place)
    if not layout.paths:
        _refuse_flat(spec, root, named)
    layout.notes += read_as_splits({one.folder.name: one.split for one in named})
    layout.notes += _loose(root.path, loose)
    split_folders = [one.folder for one in named]
    strange = [folder.name for folder in root.folders if folder not in split_folders]
    if strange:
        layout.notes.append(f"no split folder, and passed over: {shortened(strange)}")


def _refuse_same(spec: str, named: list[SplitFolder]) -> None:
    for split, count in Counter(one.split for one in named).items():
        if count > 1:
            names = shortened(one.folder.name for one in named if one.split == split)
            raise DataError(
                f"{spec}: {names} all mean the {split} split; keep one of them, or rename the "
                "others"
            )


def _refuse_strangers(spec: str, one: SplitFolder, trained: set[str]) -> None:
    """Raise DataError for a split of which no class is trained."""
    inside = [folder.name for folder in one.place.classes()]
    if trained and one.split != "train" and not trained & set(inside):
        raise DataError(
            f"{spec}: {one.folder.name}/ has the folders {shortened(inside)}, none of which is a "
            f"class of the train split ({shortened(sorted(trained))}); sort its pictures into "
            "folders of these classes, or take it away"
        )


def _loose(root: str, paths: list[str]) -> Iterator[str]:
    if paths:
        shown = os.path.relpath(paths[0], root).replace(os.sep, "/")
        yield f"{len(paths)} pictures lie in no class folder and are passed over, such as {shown}"


def _empty(root: Folder, place: Folder) -> Iterator[str]:
    names = [
        os.path.relpath(folder.path, root.path).replace(os.sep, "/")
        for folder in place.folders
        if not folder.has_pictures()
    ]
    if len(names) == 1:
        yield f"folder {names[0]} has no pictures in it"
    elif names:
        yield f"{len(names)} folders have no pictures in them: {shortened(names)}"
