"""Rows of predictions as .csv, .jsonl and .parquet, and their paths read back.

A text that a spreadsheet would take for a formula has a ' before it in a .csv, and one that begins
with ' has another, so that each is told from the others when it is read back. A set of classes is a
JSON list in a .csv too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from imgcls.config.files import check_regular, open_file
from imgcls.errors import DataError
from imgcls.results.prediction import PredictedRow
from imgcls.storage.durable import strict_json
from imgcls.storage.tables import csv_rows, csv_text

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_ROW_GROUP = 10_000


def shielded(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def unshielded(cell: str) -> str:
    """The text that `shielded` made the cell of."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULA) else cell


def csv_titles(columns: Sequence[str]) -> bytes:
    """The first line of a .csv."""
    return csv_text(columns, [dict(zip(columns, columns, strict=True))])


def csv_of(columns: Sequence[str], rows: Iterable[PredictedRow]) -> bytes:
    """The rows as lines of a .csv, without titles."""
    return csv_text(
        columns,
        ({name: _cell(value) for name, value in row.values(columns).items()} for row in rows),
    )


def jsonl_of(columns: Sequence[str], rows: Iterable[PredictedRow]) -> bytes:
    """The rows as JSON lines."""
    return "".join(f"{strict_json(row.values(columns))}\n" for row in rows).encode()


def parquet_of(columns: Sequence[str]) -> Callable[[Path, Path], None]:
    """What makes a .parquet of its first path from the JSON lines of its second.

    Bytes of names that are no UTF-8 are spelt out, since Parquet has no other texts.
    """

    def convert(file: Path, lines: Path) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        kinds = [_kind(pa, column) for column in columns]
        schema = pa.schema(list(zip(columns, kinds, strict=True)))
        with open_file(lines) as stream, ParquetWriter(file, schema) as writer:
            while group := list(islice(stream, _ROW_GROUP)):
                rows = [{n: _text(v) for n, v in json.loads(line).items()} for line in group]
                writer.write_table(pa.Table.from_pylist(rows, schema))

    return convert


class PathSet:
    """Paths, by a hash of each: 100 bytes a path, however long."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._hashes = set(map(_hash, paths))

    def __contains__(self, path: str) -> bool:
        return _hash(path) in self._hashes


def paths_in(file: Path) -> Iterator[str]:
    """The paths of an earlier prediction's rows. Raises DataError for any other file."""
    what = f"--new-only {file}"
    try:
        check_regular(file)
        yield from {".csv": _of_csv, ".jsonl": _of_jsonl, ".parquet": _of_parquet}[
            file.suffix.lower()
        ](file)
    except ImportError:
        raise DataError(
            f'{what}: Parquet is read by pyarrow: pip install "imgcls[parquet]"'
        ) from None
    except OSError as error:
        raise DataError(f"{what}: cannot be read ({error.strerror or error})") from error
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{what}: has no rows with a path, as predictions have") from error


def _of_csv(file: Path) -> Iterator[str]:
    with open_file(file) as stream:
        if b"path" not in stream.readline().rstrip(b"\r\n").split(b","):
            raise ValueError
    yield from (unshielded(row["path"]) for row in csv_rows(file))


def _of_jsonl(file: Path) -> Iterator[str]:
    with open_file(file) as stream:
        yield from (json.loads(line)["path"] for line in stream if line.strip())


def _of_parquet(file: Path) -> Iterator[str]:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(columns=["path"], use_threads=False):
            yield from batch.column("path").to_pylist()


def _hash(path: str) -> bytes:
    return hashlib.blake2b(path.encode(errors="surrogateescape"), digest_size=16).digest()


def _kind(pa: Any, column: str) -> Any:
    if column == "set":
        return pa.list_(pa.string())
    return pa.float64() if column.startswith("probability") else pa.string()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):  # begins with [, so it is no formula, whatever is in it
        return strict_json(value)
    return shielded(value) if isinstance(value, str) else value


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(one) for one in value]
    if not isinstance(value, str):
        return value
    return value.encode(errors="surrogateescape").decode(errors="backslashreplace")
