"""Results as files: CSV for tables, strict JSON for documents, all replaced atomically."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from imgcls.config.files import open_file
from imgcls.metrics.registry import VALIDATION
from imgcls.results.record import to_plain
from imgcls.storage.durable import replacing, strict_json, write_text

# a name that is no UTF-8 is written byte for byte
_BYTES = "surrogateescape"
SPLIT_COLUMNS = ("path", "label", "group", "split", "fold", "sha256")
HISTORY_COLUMNS = (
    "epoch",
    "train_loss",
    *(name for column in VALIDATION for name in column.columns),
    "val_temperature",
    "val_calibrated_loss",
    "lr",
    "epoch_time",
)


def write_csv(file: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows, one at a time, as CSV (RFC 4180 quoting, UTF-8); None becomes an empty cell.

    Text is written as it is, whatever a spreadsheet makes of a cell that begins with "=": the files
    are read back, and by other programs.
    """
    with replacing(file) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors=_BYTES, newline="")
        titles = dict(zip(columns, columns, strict=True))
        _write_rows(text, columns, itertools.chain([titles], rows))
        text.detach()


def read_csv(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, all cells as text. Raises as `csv_rows`."""
    return list(csv_rows(file))


def csv_rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, one at a time. Raises OSError when it cannot be read.

    Raises ValueError where it is damaged, also for a row with more or fewer cells than the title.
    """
    with io.TextIOWrapper(open_file(file), encoding="utf-8", errors=_BYTES, newline="") as stream:
        rows = csv.DictReader(stream)
        try:
            columns = rows.fieldnames or ()
            if len(set(columns)) < len(columns):
                raise ValueError("a column comes twice")
            for row in rows:
                # cells without a title stand under None, and None where one is missing
                if None in row or None in row.values():
                    raise ValueError(f"line {rows.line_num} has not as many cells as the title")
                yield row
        except csv.Error as error:
            raise ValueError(f"line {rows.line_num}: {error}") from error


def append_csv(file: Path, columns: Sequence[str], row: Mapping[str, Any]) -> None:
    """Add a row to a file that `write_csv` wrote; one that cannot be written leaves no half line.

    Raises OSError.
    """
    size = file.stat().st_size
    line = csv_text(columns, [row])
    try:
        with file.open("ab") as stream:
            stream.write(line)
    except OSError:
        os.truncate(file, size)
        raise


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """The rows as `write_csv` writes them, without the titles."""
    lines = io.StringIO(newline="")
    _write_rows(lines, columns, rows)
    return lines.getvalue().encode("utf-8", _BYTES)


def _write_rows(text: TextIO, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    quoting = csv.DictWriter(text, columns, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        # until Python 3.13 a lone \r is not quoted, and read as the end of a line
        returns = any("\r" in value for value in row.values() if isinstance(value, str))
        (quoting if returns else writer).writerow(row)


def write_json(file: Path, document: Any) -> None:
    """Write strict JSON; nan and inf become null."""
    write_text(file, json_text(document))


def json_text(document: Any) -> str:
    """The value as the text that `write_json` writes."""
    return strict_json(to_plain(document), indent=2) + "\n"


def write_history(file: Path, rows: Iterable[Mapping[str, float | None]]) -> None:
    """Write `history.csv`, one row an epoch."""
    write_csv(file, HISTORY_COLUMNS, rows)
