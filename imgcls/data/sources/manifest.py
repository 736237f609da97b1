"""Tables that name picture files: .csv, .tsv and .jsonl.

path,label,split,group,fold        only path and label must be there
a/1.jpg,beetle,train,plant7,0      paths start from the table's folder, or from --root
"""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

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
    if not paths:
        raise DataError(f"{spec}: has no rows")
    refuse(
        spec,
        "rows without a path",
        (p for p, path in zip(cells.places, paths, strict=True) if not path),
    )
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
        keys=[keys[row] for row in once],
        labels=[labels[row] for row in once],
        places=[cells.places[row] for row in once],
        columns={title: [values[row] for row in once] for title, values in columns.items()},
        notes=(*label_notes, *located.notes, *notes),
    )
    return sample_table(
        spec,
        file.stem,
        rows,
        lambda order: _images(place, [rows.keys[row] for row in order], located.missing),
        reading,
    )


def _images(place: StoredFile, keys: Sequence[str], why_missing: str) -> ImageStore:
    if isinstance(place, RemoteFile):
        return RemoteImages(place, tuple(keys))
    return FileImages(place, tuple(keys), why_missing=why_missing)


def _labels(
    spec: str,
    cells: Cells,
    columns: dict[str, Sequence[str]],
    reading: ReadingConfig,
    roles: Sequence[str],
) -> tuple[Sequence[str], tuple[str, ...]]:
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


def _one_name_a_file(root: Path, keys: Sequence[str]) -> list[str]:
    """The keys, and for those that spell the name of one file in two ways the first of them.

    Systems that do not tell case, or how an accent is composed, find one file by A/1.jpg and
    a/1.JPG; as two pictures it could stand in two splits.
    """
    spellings: dict[str, dict[str, None]] = defaultdict(dict)
    for key in keys:
        spellings[unicodedata.normalize("NFC", key).casefold()][key] = None
    first: dict[str, str] = {}
    for names in spellings.values():
        files: dict[tuple[int, int], str] = {}
        for key in names if len(names) > 1 else ():
            with contextlib.suppress(OSError):
                found = os.stat(os.path.join(root, key))  # noqa: PTH116, PTH118
                # without a number nothing can be told
                if found.st_ino:
                    first[key] = files.setdefault((found.st_dev, found.st_ino), key)
    return [first.get(key, key) for key in keys]


def _without_repeats(
    spec: str,
    keys: Sequence[str],
    roles: Mapping[str, Sequence[str]],
    places: Sequence[str],
) -> tuple[list[int], tuple[str, ...]]:
    """The first row of each path. Raises DataError where rows of one path contradict each other."""
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        rows_of[key].append(row)
    repeated = {key: rows for key, rows in rows_of.items() if len(rows) > 1}
    for title, values in roles.items():
        refuse(
            spec,
            f"paths with more than one {title}",
            (
                f"{key} ({' and '.join(f'{values[r]!r} at {places[r]}' for r in rows[:2])})"
                for key, rows in repeated.items()
                if len({values[row] for row in rows}) > 1
            ),
        )
    more = sum(len(rows) - 1 for rows in repeated.values())
    notes = (f"{more} rows repeat a path and are left out",) if more else ()
    return [rows[0] for rows in rows_of.values()], notes
