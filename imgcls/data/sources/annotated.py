"""Classes of pictures that lie in no class folder, by a file that lies among them.

train/metadata.csv           Hugging Face's: file_name and label; also metadata.jsonl
train/_classes.csv           Roboflow's: filename and one column a class
val/val_annotations.txt      Tiny ImageNet's: name, class and a box a line
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from imgcls.columns.texts import Texts
from imgcls.config.files import open_file
from imgcls.data.rows import titled
from imgcls.data.sources.cells import read_cells
from imgcls.data.sources.one_hot import one_hot_labels
from imgcls.data.sources.tree import TABLE_SUFFIXES, Folder, suffix_of
from imgcls.errors import DataError

_TABLES = ("metadata.csv", "metadata.jsonl", "_classes.csv")
_SHOWN = 3
_PATHS = ("file_name", "filename", "path")


def annotated(folder: Folder, split: str = "") -> list[tuple[str, str]] | None:
    """All pictures of a folder with the classes that its own table gives them.

    None where there is no such table, or one that gives no classes. Raises DataError for a picture
    that the table does not name, and a row without a picture or with two labels.
    """
    name = next(
        (name for name in (f"{split}_annotations.txt", *_TABLES) if name in folder.files), ""
    )
    if not name:
        return None
    file = os.path.join(folder.path, name)  # noqa: PTH118  as all paths here
    label_of = _boxes(folder, file) if name not in _TABLES else _table(folder, file)
    if label_of is None:
        return None
    found = [(path, label_of.pop(path, "")) for path in folder.all_pictures()]
    unknown = [path for path, label in found if not label]
    if unknown:
        raise DataError(f"{file}: does not name {len(unknown)} pictures, such as {unknown[0]}")
    if label_of and name in _TABLES:
        raise DataError(
            f"{file}: names {len(label_of)} pictures that are not there, such as {min(label_of)}"
        )
    return found


def tables_in(*folders: Folder) -> str:
    """The tables that lie in these folders, as words of a sentence, "" for none."""
    found = [
        _typed(os.path.join(folder.path, name))  # noqa: PTH118
        for folder in {folder.path: folder for folder in folders}.values()
        for name in folder.files
        if suffix_of(name) in TABLE_SUFFIXES
    ]
    if not found:
        return ""
    shown = ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
    what = "name it" if len(found) == 1 else "name one, or all in one with a column split,"
    return f" (there is {shown}: {what} as DATA)"


def _typed(path: str) -> str:
    """The path as it is typed here: below the current folder from there, else in full."""
    here = os.path.join(os.getcwd(), "")  # noqa: PTH109, PTH118
    return path.removeprefix(here)


def _boxes(folder: Folder, file: str) -> dict[str, str]:
    with io.TextIOWrapper(open_file(file), encoding="utf-8", errors="replace") as stream:
        cells = [line.rstrip("\n").split("\t") for line in stream]
    label_of = {row[0]: row[1] for row in cells if len(row) > 1 and row[1]}
    return {
        path: label_of.get(os.path.basename(path), "")  # noqa: PTH119
        for path in folder.all_pictures()
    }


def _table(folder: Folder, file: str) -> dict[str, str] | None:
    columns, places = read_cells(Path(file), file)
    path_col = next((title for usual in _PATHS if (title := titled(columns, usual))), None)
    if path_col is None:
        return None
    labels = _labels(file, columns, places)
    if labels is None:
        return None
    label_of: dict[str, str] = {}
    for name, label, place in zip(columns[path_col], labels, places, strict=True):
        path = os.path.normpath(os.path.join(folder.path, name.strip()))  # noqa: PTH118
        if label_of.setdefault(path, label) != label:
            raise DataError(f"{file}: {place} gives {name} another label than a line before")
    return label_of


def _labels(file: str, columns: Mapping[str, Texts], places: Sequence[str]) -> Sequence[str] | None:
    label_col = titled(columns, "label")
    if label_col is not None:
        return columns[label_col]
    said = one_hot_labels(file, columns, places, ())
    return None if said is None else said[0]
