"""Tables that name picture files: .csv, .tsv and .jsonl.

path,label,split,group,fold        only path and label must be there
a/1.jpg,beetle,train,plant7,0      paths start from the table's folder, or from --root
"""

from __future__ import annotations

import contextlib
import os
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from imgcls.columns.texts import Texts, alike
from imgcls.config.reading import ReadingConfig
from imgcls.data.names import shortened
from imgcls.data.remote.files import RemoteFile, StoredFile, stored
from imgcls.data.remote.urls import check_url, refuse_url
from imgcls.data.rows import Rows, column, refuse, sample_table, titled
from imgcls.data.sources.cells import SUFFIXES, Cells, read_cells
from imgcls.data.sources.files import FileImages, RemoteImages
from imgcls.data.sources.one_hot import class_columns, one_hot_labels
from imgcls.data.sources.table_paths import locate, locate_urls
from imgcls.data.table import ImageStore, SampleTable
from imgcls.errors import DataError


class ManifestSource:
    """A table with a path and a label in each row; all cells are texts, so 007 is not 7."""

    options = frozenset(
        {"path_col", "label_col", "split_col", "group_col", "fold_col", "root", "group_regex"}
    )

    def matches(self, spec: str) -> bool:
        """True for a file with one of the suffixes."""
        path = stored(spec)
        if isinstance(path, RemoteFile):
            return path.suffix.lower() in SUFFIXES
        path = path.expanduser()
        return path.suffix.lower() in SUFFIXES and path.is_file()

    def read(self, spec: str, reading: ReadingConfig) -> SampleTable:
        """The pictures that the table names. Raises DataError when it cannot be used."""
        file = stored(spec)
        if isinstance(file, Path):
            file = file.expanduser().absolute()
        else:
            check_url(spec)
        return manifest_table(spec, file, read_cells(file, spec), reading)


def manifest_table(
    spec: str, file: StoredFile, cells: Cells, reading: ReadingConfig
) -> SampleTable:
    """The table of picture files that `cells`, read from `file`, name. Raises DataError."""
    columns = dict(cells.columns)
    path_flag = "--path-col" + (
        ""
        if reading.label_col is not None or titled(columns, "label") or class_columns(columns)
        else ", and the one of the labels by --label-col"
    )
    path_col = column(spec, columns, reading.path_col, ("path",), path_flag)
    if path_col == (reading.label_col or titled(columns, "label")):
        raise DataError(f"{spec}: column {path_col!r} cannot hold both path and label")
    paths = columns.pop(path_col)
    wanted = {"split": reading.split_col, "group": reading.group_col, "fold": reading.fold_col}
    said = [title or titled(columns, usual) or usual for usual, title in wanted.items()]
    labels, label_notes = _labels(spec, cells, columns, reading, said)
    if not len(paths):
        raise DataError(f"{spec}: has no rows")
    refuse(spec, "rows without a path", (cells.places[row] for row in paths.empty_rows()))
    refuse_url("--root", reading.root)
    place = reading.root or file.parent
    if isinstance(place, RemoteFile):
        located = locate_urls(spec, place, paths)
        keys = located.keys
    else:
        place = place.expanduser().absolute()
        located = locate(spec, place, paths)
        keys = _one_name_a_file(place, located.keys)
    roles = {"label": labels, **{title: columns[title] for title in said if title in columns}}
    once, notes = _without_repeats(spec, keys, roles, cells.places)
    rows = Rows(
        keys=keys.select(once),
        labels=labels.select(once),
        places=cells.places.select(once),
        columns={title: values.select(once) for title, values in columns.items()},
        notes=(*label_notes, *located.notes, *notes),
    )
    is_lost = np.zeros(len(paths), bool)
    is_lost[located.lost] = True

    def images(order: np.ndarray, keys: Texts) -> ImageStore:
        if isinstance(place, RemoteFile):
            return RemoteImages(place, keys)
        missing = np.flatnonzero(is_lost[once][order]).astype(np.int64)
        rows = array("q", missing.tobytes())
        return FileImages(place, keys, missing=rows, why_missing=located.missing)

    return sample_table(spec, file.stem, rows, images, reading)


def _labels(
    spec: str,
    cells: Cells,
    columns: dict[str, Texts],
    reading: ReadingConfig,
    roles: Sequence[str],
) -> tuple[Texts, tuple[str, ...]]:
    """The labels, taken out of the columns: of one column, or of one column a class. And a note."""
    if reading.label_col is None and titled(columns, "label") is None:
        found = one_hot_labels(spec, columns, cells.places, roles)
        if found is not None:
            labels, titles = found
            for title in titles:
                del columns[title]
            note = f"the classes are columns, of which one is 1 in each row: {shortened(titles)}"
            return labels, (note,)
    label_col = column(spec, cells.columns, reading.label_col, ("label",), "--label-col")
    return columns.pop(label_col), ()


def _one_name_a_file(root: Path, keys: Texts) -> Texts:
    """The keys, and for those that spell the name of one file in two ways the first of them.

    Systems that do not tell case, or how an accent is composed, find one file by A/1.jpg and
    a/1.JPG; as two pictures it could stand in two splits.
    """
    first: dict[str, str] = {}
    for rows in alike(map(_folded, keys), len(keys)):
        spellings: dict[str, dict[str, None]] = defaultdict(dict)
        for key in map(keys.__getitem__, rows.tolist()):
            spellings[_folded(key)][key] = None
        for names in spellings.values():
            files: dict[tuple[int, int], str] = {}
            for key in names if len(names) > 1 else ():
                with contextlib.suppress(OSError):
                    found = os.stat(os.path.join(root, key))  # noqa: PTH116, PTH118
                    # without a number nothing can be told
                    if found.st_ino:
                        first[key] = files.setdefault((found.st_dev, found.st_ino), key)
    return keys.mapped(lambda key: first.get(key, key)) if first else keys


def _folded(key: str) -> str:
    return unicodedata.normalize("NFC", key).casefold()


def _without_repeats(
    spec: str, keys: Texts, roles: Mapping[str, Texts], places: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The first row of each path. Raises DataError where rows of one path contradict each other."""
    first = np.arange(len(keys))
    second = np.full(len(keys), -1)
    for rows in alike(keys, len(keys)):
        seen: dict[str, int] = {}
        for row in rows.tolist():
            first[row] = seen.setdefault(keys[row], row)
            if first[row] != row and second[first[row]] < 0:
                second[first[row]] = row
    repeats = np.flatnonzero(first != np.arange(len(keys)))
    if not len(repeats):
        return first, ()
    for title, values in roles.items():
        codes, _ = values.factorized()
        divided = np.unique(first[repeats[codes[repeats] != codes[first[repeats]]]])
        refuse(
            spec,
            f"paths with more than one {title}",
            (
                f"{keys[one]} "
                f"({' and '.join(f'{values[r]!r} at {places[r]}' for r in (one, second[one]))})"
                for one in divided
            ),
        )
    note = f"{len(repeats)} rows repeat a path and are left out"
    return np.flatnonzero(first == np.arange(len(keys))), (note,)
