"""Tables that name picture files: .csv, .tsv and .jsonl.

path,label,split,group,fold        only path and label must be there
a/1.jpg,beetle,train,plant7,0      paths start from the table's folder, or from --root
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import json
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imgcls.config.files import read_bytes
from imgcls.config.reading import ReadingConfig
from imgcls.data.names import is_text, shortened
from imgcls.data.rows import Rows, column, refuse, sample_table, titled
from imgcls.data.sources.files import FileImages
from imgcls.data.sources.one_hot import class_columns, one_hot_labels
from imgcls.data.sources.table_paths import locate
from imgcls.data.sources.tree import is_picture
from imgcls.data.table import SampleTable
from imgcls.errors import DataError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
# Excel's first line for "the cells are separated so"
_NAMED_DELIMITER = re.compile(r'"?sep=(.)"?\s*')
_OTHERS = (";", "\t", "|", ",")
SUFFIXES = (*_DELIMITERS, ".jsonl")


class Cells(NamedTuple):
    """A table's texts by column, all of one length, and where each row stands in the file."""

    columns: Mapping[str, Sequence[str]]
    places: Sequence[str]


class ManifestSource:
    """A table with a path and a label in each row; all cells are texts, so 007 is not 7."""

    options = frozenset(
        {"path_col", "label_col", "split_col", "group_col", "fold_col", "root", "group_regex"}
    )

    def matches(self, spec: str) -> bool:
        """True for a file with one of the suffixes."""
        path = Path(spec).expanduser()
        return path.suffix.lower() in SUFFIXES and path.is_file()

    def read(self, spec: str, reading: ReadingConfig) -> SampleTable:
        """The pictures that the table names. Raises DataError when it cannot be used."""
        file = Path(spec).expanduser().absolute()
        return manifest_table(spec, file, read_cells(file, spec), reading)


def read_cells(file: Path, spec: str) -> Cells:
    """What a .csv, .tsv or .jsonl says. Raises DataError, which begins with `spec`."""
    try:
        read = _read_jsonl if file.suffix.lower() == ".jsonl" else _read_csv
        return read(file, spec)
    except OSError as error:
        raise DataError(f"{spec}: cannot be read ({error.strerror})") from error
    except csv.Error as error:
        raise DataError(f"{spec}: line 1: {error}") from error


def manifest_table(spec: str, file: Path, cells: Cells, reading: ReadingConfig) -> SampleTable:
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
    root = (reading.root or file.parent).expanduser().absolute()
    if not paths:
        raise DataError(f"{spec}: has no rows")
    refuse(
        spec,
        "rows without a path",
        (p for p, path in zip(cells.places, paths, strict=True) if not path),
    )
    located = locate(spec, root, paths)
    keys = _one_name_a_file(root, located.keys)
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
        lambda order: FileImages(
            root, tuple(rows.keys[row] for row in order), why_missing=located.missing
        ),
        reading,
    )


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


def _read_csv(file: Path, spec: str) -> Cells:
    with io.StringIO(_text_of(file, spec), newline="") as stream:
        first = stream.readline()
        named = _NAMED_DELIMITER.fullmatch(first)
        above = 1 if named else 0
        titles = stream.readline() if named else first
        stream.seek(len(first) if named else 0)
        delimiter = named[1] if named else _DELIMITERS[file.suffix.lower()]
        if delimiter not in titles:
            # what spreadsheets write where the comma is the decimal point, and what others do
            delimiter = next((other for other in _OTHERS if other in titles), delimiter)
        further = titles.split(delimiter)[1:]
        lines = csv.reader(
            stream,
            delimiter=delimiter,
            # where each title has a blank before it, the blank separates too
            skipinitialspace=bool(further) and all(title[:1] == " " for title in further),
            strict=True,
        )
        header = [title.strip() for title in next(lines, [])]
        _refuse_header(spec, header)
        rows: list[list[str]] = []
        places: list[str] = []
        try:
            for cells in lines:
                if not cells:
                    continue
                if len(cells) < len(header) or any(cells[len(header) :]):
                    raise DataError(
                        f"{spec}: line {above + lines.line_num} has {len(cells)} cells, the header "
                        f"{len(header)}; a cell with {delimiter!r} in it must be quoted"
                    )
                rows.append(cells)
                places.append(f"line {above + lines.line_num}")
        except csv.Error as error:
            raise DataError(f"{spec}: line {above + lines.line_num}: {error}") from error
    columns = {t: [cells[i] for cells in rows] for i, t in enumerate(header) if t}
    return Cells(columns, places)


def _refuse_header(spec: str, header: Sequence[str]) -> None:
    twice = {title for title in header if title and header.count(title) > 1}
    if twice:
        raise DataError(f"{spec}: two columns are called {min(twice)!r}")
    picture = next((title for title in header if is_picture(title)), None)
    if picture is not None:
        raise DataError(
            f"{spec}: its first line names no columns but a picture, {shortened([picture])}; put "
            "a line with the names of its columns above it, such as path,label or split,path,label"
        )


def _text_of(file: Path, spec: str) -> str:
    """The table's text: UTF-8, or UTF-16 with its mark. Raises DataError with the line."""
    content = read_bytes(file)
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return content.decode("utf-16")
        except UnicodeDecodeError as error:
            raise DataError(f"{spec}: is not the UTF-16 that it begins as ({error})") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{spec}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}); save the table "
            "as UTF-8, in Excel `CSV UTF-8`"
        ) from error


def _read_jsonl(file: Path, spec: str) -> Cells:
    rows: list[dict[str, str]] = []
    places: list[str] = []
    with io.StringIO(_text_of(file, spec)) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            rows.append(json_cells(line, f"{spec}: line {number}"))
            places.append(f"line {number}")
    titles = dict.fromkeys(title for row in rows for title in row)
    return Cells({title: [row.get(title, "") for row in rows] for title in titles}, places)


def json_cells(text: str | bytes, place: str) -> dict[str, str]:
    """A JSON object's values as texts, numbers as they are written, null empty.

    Raises DataError, which begins with `place`, when it is none.
    """
    try:
        # numbers stay the texts they are
        document = json.loads(text, parse_int=str, parse_float=str)
    except ValueError as error:
        raise DataError(f"{place} is not JSON ({error})") from error
    except RecursionError:
        raise DataError(f"{place} is not JSON that can be read (nested too deeply)") from None
    if not isinstance(document, dict):
        raise DataError(f"{place} is not a JSON object")
    cells = dict(_texts(document))
    if not is_text("".join((*cells, *cells.values()))):
        raise DataError(f"{place} holds half a surrogate pair (such as \\ud83d), which is no text")
    return cells


def _texts(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for title, value in document.items():
        if value is None:
            yield title, ""
        else:
            yield title, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
