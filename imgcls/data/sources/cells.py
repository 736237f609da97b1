"""The cells of .csv, .tsv and .jsonl tables, all as texts: 007 is not 7."""

from __future__ import annotations

import codecs
import contextlib
import csv
import errno
import io
import itertools
import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from imgcls.columns.numbered import Numbered
from imgcls.columns.packing import Packer
from imgcls.columns.texts import BLOCK, Texts
from imgcls.data.names import is_text, shortened
from imgcls.data.remote.files import StoredFile, open_stored, read_stored
from imgcls.data.sources.tree import is_picture
from imgcls.errors import DataError

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
# Excel's first line for "the cells are separated so"
_NAMED_DELIMITER = re.compile(r'"?sep=(.)"?\s*')
_OTHERS = (";", "\t", "|", ",")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_LONGEST_LINE = 2**26
LINE = "line "
SUFFIXES = (*_DELIMITERS, ".jsonl")


class Cells(NamedTuple):
    """A table's texts by column, all of one length, and where each row stands in the file."""

    columns: Mapping[str, Texts]
    places: Numbered


class Row(NamedTuple):
    """One row: the line of the file that it ends at, and its texts by column."""

    line: int
    cells: Mapping[str, str]

    @property
    def place(self) -> str:
        """Where it stands in the file."""
        return f"{LINE}{self.line}"


def read_cells(file: StoredFile, spec: str) -> Cells:
    """What a .csv, .tsv or .jsonl says. Raises DataError, which begins with `spec`."""
    lines = array("I")
    columns: dict[str, Packer] = {}
    with open_table(file, spec) as (titles, rows):
        columns.update((title, Packer()) for title in titles)
        while block := list(itertools.islice(rows, BLOCK)):
            for title in dict.fromkeys(title for row in block for title in row.cells):
                if title not in columns:  # which only a .jsonl has
                    columns[title] = Packer()
                    for texts in Texts.repeated("", len(lines)).blocks():
                        columns[title].extend(texts)
            for title, packer in columns.items():
                packer.extend([row.cells.get(title, "") for row in block])
            lines.extend(row.line for row in block)
    places = Numbered(Texts.repeated(LINE, len(lines)), np.array(lines, np.uint32))
    return Cells({title: Texts(*packer.arrays()) for title, packer in columns.items()}, places)


@contextlib.contextmanager
def open_table(file: StoredFile, spec: str) -> Iterator[tuple[Sequence[str], Iterator[Row]]]:
    """(its columns' names, its rows) of a .csv, .tsv or .jsonl, which is read as they are taken.

    A .jsonl names its columns in each row, so beforehand there are none. Raises DataError, which
    begins with `spec`.
    """
    try:
        with _opened(file) as stream:
            read = _jsonl if file.suffix.lower() == ".jsonl" else _csv
            yield read(file, stream, spec)
    except OSError as error:
        raise DataError(f"{spec}: cannot be read ({error.strerror})") from error
    except csv.Error as error:
        raise DataError(f"{spec}: line 1: {error}") from error
    except UnicodeDecodeError as error:
        raise _not_text(file, spec) from error


def _opened(file: StoredFile) -> io.TextIOWrapper:
    """The table's text: UTF-8, or UTF-16 with its mark."""
    stream = open_stored(file)
    encoding = "utf-16" if stream.read(2) in _UTF16 else "utf-8-sig"
    stream.seek(0)
    # lines of JSON end at \n alone; a csv.reader looks for the ends of rows itself
    newline = "\n" if file.suffix.lower() == ".jsonl" else ""
    return io.TextIOWrapper(stream, encoding=encoding, newline=newline)


def _lines(stream: io.TextIOWrapper) -> Iterator[str]:
    """The lines. Raises OSError for one as no table has: a sparse file may be one of terabytes."""
    while line := stream.readline(_LONGEST_LINE):
        if len(line) == _LONGEST_LINE:
            raise OSError(errno.EFBIG, f"a line in it has more than {_LONGEST_LINE:,} characters")
        yield line


def _not_text(file: StoredFile, spec: str) -> DataError:
    """What to say of a table that is not in the encoding that it begins in, with the line."""
    content = read_stored(file)
    try:
        content.decode("utf-16" if content.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        if content.startswith(_UTF16):
            return DataError(f"{spec}: is not the UTF-16 that it begins as ({error})")
        line = content.count(b"\n", 0, error.start) + 1
        return DataError(
            f"{spec}: line {line} is not UTF-8 (byte 0x{content[error.start]:02x}); save the table "
            "as UTF-8, in Excel `CSV UTF-8`"
        )
    return DataError(f"{spec}: changed while it was read; read it again")


def _csv(
    file: StoredFile, stream: io.TextIOWrapper, spec: str
) -> tuple[Sequence[str], Iterator[Row]]:
    text = _lines(stream)
    first = next(text, "")
    named = _NAMED_DELIMITER.fullmatch(first)
    above = 1 if named else 0
    titles = next(text, "") if named else first
    delimiter = named[1] if named else _DELIMITERS[file.suffix.lower()]
    if delimiter not in titles:
        # what spreadsheets write where the comma is the decimal point, and what others do
        delimiter = next((other for other in _OTHERS if other in titles), delimiter)
    further = titles.split(delimiter)[1:]
    lines = csv.reader(
        itertools.chain([titles] if titles else [], text),
        delimiter=delimiter,
        # where each title has a blank before it, the blank separates too
        skipinitialspace=bool(further) and all(title[:1] == " " for title in further),
        strict=True,
    )
    header = [title.strip() for title in next(lines, [])]
    _refuse_header(spec, header)

    def rows() -> Iterator[Row]:
        try:
            for cells in lines:
                if not cells:
                    continue
                line = above + lines.line_num
                if len(cells) < len(header) or any(cells[len(header) :]):
                    raise DataError(
                        f"{spec}: {LINE}{line} has {len(cells)} cells, the header {len(header)}; a "
                        f"cell with {delimiter!r} in it must be quoted"
                    )
                yield Row(line, {t: text for t, text in zip(header, cells, strict=False) if t})
        except csv.Error as error:
            raise DataError(f"{spec}: line {above + lines.line_num}: {error}") from error

    return [title for title in header if title], rows()


def _jsonl(
    _file: StoredFile, stream: io.TextIOWrapper, spec: str
) -> tuple[Sequence[str], Iterator[Row]]:
    rows = (
        Row(number, json_cells(line, f"{spec}: line {number}"))
        for number, line in enumerate(_lines(stream), 1)
        if line.strip()
    )
    return (), rows


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
