"""Reading `splits.csv`, and comparing it with the splits that a checkpoint was trained by."""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.columns.packing import Packer
from imgcls.columns.rows import Row, TextRows
from imgcls.columns.texts import BLOCK, Texts
from imgcls.config.files import read_json
from imgcls.errors import RunError
from imgcls.storage.runs import PREFLIGHT, SPLITS
from imgcls.storage.tables import SPLIT_COLUMNS, csv_rows

_SHOWN = 5
_LONGEST_PLACE = 32
_LONGEST_FOLD = 9  # digits
_NEEDED = ("path", "label", "split", "fold")


def read_splits(run: Path) -> TextRows:
    """The rows of a run's splits.csv. Raises RunError when it is missing or damaged."""
    file = run / SPLITS
    columns: dict[str, Packer] = defaultdict(Packer)
    try:
        rows = enumerate(csv_rows(file), 2)
        while block := list(itertools.islice(rows, BLOCK)):
            for number, row in block:
                if not _is_whole(row):
                    raise RunError(f"{file}: is damaged at row {number}; put it back as it was")
            for title in block[0][1]:
                columns[title].extend([row[title] for _, row in block])
    except OSError as error:
        raise RunError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise RunError(f"{file}: is damaged ({error}); put it back as it was") from error
    if not columns:
        raise RunError(f"{file}: has no rows; put it back as it was")
    return TextRows({title: Texts(*packer.arrays()) for title, packer in columns.items()})


def checked_at_s(run: Path) -> float | None:
    """When the contents in splits.csv were read, in seconds since 1970; None where not known."""
    try:
        started = read_json(run / PREFLIGHT)["started"]
        return datetime.fromisoformat(started).timestamp()
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def recorded_splits(rows: Sequence[Row]) -> dict[str, str]:
    """Hashes of the rows of splits.csv, which a checkpoint keeps to know its splits again.

    sha256: of all their cells. assigned: the split and fold of each, in the order of paths, as
    base64 of zlib; a few bits a row.
    """
    ordered = TextRows.of(rows, _NEEDED).sorted_by("path")
    packer = zlib.compressobj(9)
    parts = []
    for number, places in enumerate(_places(ordered).blocks()):
        text = "\n" * bool(number) + "\n".join(places)
        parts.append(packer.compress(text.encode()))
    assigned = b"".join([*parts, packer.flush()])
    return {"sha256": _digest(ordered), "assigned": base64.b64encode(assigned).decode()}


def differing(rows: Sequence[Row], kept: Mapping[str, Any] | None) -> str | None:
    """In words, how rows differ from those that a checkpoint was trained by; None where equal.

    kept: its `recorded_splits`; None, of a checkpoint that has none, says nothing.
    """
    if kept is None:
        return None
    ordered = TextRows.of(rows, _NEEDED).sorted_by("path")
    if _digest(ordered) == kept["sha256"]:
        return None
    before = _assigned(kept, len(ordered))
    if len(before) != len(ordered):
        return f"{len(ordered):,} rows are not those that it was trained by"
    places, paths = _places(ordered), ordered.columns["path"]
    moved = [n for n, (was, now) in enumerate(zip(before, places, strict=True)) if was != now]
    if not moved:
        return "its paths, labels, groups or contents are other ones"
    told = [f"{paths[n]} (was {_said(before[n])}, is {_said(places[n])})" for n in moved[:_SHOWN]]
    rest = f" and {len(moved) - _SHOWN:,} more" if len(moved) > _SHOWN else ""
    count = "1 row" if len(moved) == 1 else f"{len(moved):,} rows"
    return f"{count} changed: {', '.join(told)}{rest}"


def trained_by(rows: Sequence[Row], kept: Mapping[str, Any] | None) -> TextRows | None:
    """The rows with the splits that the checkpoint was trained by, whatever they say now.

    None where that cannot be told, because rows have come or gone.
    """
    held = TextRows.of(rows, _NEEDED)
    if kept is None:
        return held
    ordered = held.sorted_by("path")
    before = _assigned(kept, len(ordered))
    if len(before) != len(ordered):
        return None
    return ordered.replaced(split=before.mapped(_split_in), fold=before.mapped(_fold_in))


def keys_in(rows: Sequence[Row], split: str, fold: int) -> Texts:
    """The paths of a split, as fold `fold` sees it."""
    columns = TextRows.of(rows, _NEEDED).columns
    held_out, own = columns["fold"].equal(str(fold)), columns["split"].equal(split)
    chosen = own | held_out if split == "val" else own & ~held_out
    return columns["path"].select(np.flatnonzero(chosen))


def _is_whole(row: Row) -> bool:
    if any(name not in row for name in _NEEDED):
        return False
    fold = row["fold"]
    is_fold = fold.isascii() and fold.isdecimal() and len(fold) <= _LONGEST_FOLD
    return row["split"] in ("", "train", "val", "test") and (not fold or is_fold)


def _places(rows: TextRows) -> Texts:
    """The split and the fold of each row, as a checkpoint keeps them."""
    splits, folds = rows.columns["split"], rows.columns["fold"]
    return Texts.of(f"{split},{fold}" for split, fold in zip(splits, folds, strict=True))


def _split_in(place: str) -> str:
    split, _ = place.split(",")
    return split


def _fold_in(place: str) -> str:
    _, fold = place.split(",")
    return fold


def _said(place: str) -> str:
    split, fold = _split_in(place), _fold_in(place)
    return (split or "in no split") + (f" of fold {fold}" if fold else "")


def _assigned(kept: Mapping[str, Any], rows: int) -> Texts:
    """The split and fold of each row; of a text that is far too long for so many, the beginning."""
    try:
        packed = base64.b64decode(kept["assigned"])
        text = zlib.decompressobj().decompress(packed, (rows + 1) * _LONGEST_PLACE)
        return Texts.of(_lines(text.decode()))
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error):
        return Texts.of(())


def _lines(text: str) -> Iterator[str]:
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start:end]
        start = end + 1
    yield text[start:]


def _digest(ordered: TextRows) -> str:
    digest = hashlib.sha256()
    none = Texts.repeated("", len(ordered))
    columns = [ordered.columns.get(name, none) for name in SPLIT_COLUMNS]
    for cells in zip(*(texts.blocks() for texts in columns), strict=True):
        lines = "\n".join(map("\0".join, zip(*cells, strict=True)))
        digest.update(f"{lines}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
