"""Results as files: CSV for tables, strict JSON for documents, all replaced atomically."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls.config.files import open_file
from imgcls.engine.durable import replacing, strict_json, write_text
from imgcls.results import to_plain

# a name that is no UTF-8 is written byte for byte
_BYTES = "surrogateescape"
SPLIT_COLUMNS = ("path", "label", "group", "split", "fold", "sha256")
HISTORY_COLUMNS = (
    "epoch",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "val_accuracy_se",
    "val_balanced_accuracy",
    "val_balanced_accuracy_se",
    "val_precision_macro",
    "val_recall_macro",
    "val_macro_f1",
    "val_precision_weighted",
    "val_recall_weighted",
    "val_f1_weighted",
    "val_top_3_accuracy",
    "val_top_5_accuracy",
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
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        quoting = csv.DictWriter(text, columns, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in itertools.chain([dict(zip(columns, columns, strict=True))], rows):
            # until Python 3.13 a lone \r is not quoted, and read as the end of a line
            returns = any("\r" in value for value in row.values() if isinstance(value, str))
            (quoting if returns else writer).writerow(row)
        text.detach()


def read_csv(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, all cells as text. Raises OSError when it cannot be read."""
    return list(csv_rows(file))


def csv_rows(file: Path) -> Iterator[dict[str, str]]:
    """The rows of a CSV file, one at a time. Raises OSError when it cannot be read."""
    with io.TextIOWrapper(open_file(file), encoding="utf-8", errors=_BYTES, newline="") as stream:
        yield from csv.DictReader(stream)


def write_json(file: Path, document: Any) -> None:
    """Write strict JSON; nan and inf become null."""
    write_text(file, json_text(document))


def json_text(document: Any) -> str:
    """What `write_json` writes."""
    return strict_json(to_plain(document), indent=2) + "\n"


def write_history(file: Path, rows: Iterable[Mapping[str, float | None]]) -> None:
    """Write `history.csv`, one row an epoch."""
    write_csv(file, HISTORY_COLUMNS, rows)
