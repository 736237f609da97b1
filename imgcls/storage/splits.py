"""Reading `splits.csv`, and comparing it with the splits that a checkpoint was trained by."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from imgcls.config.files import read_json
from imgcls.errors import RunError
from imgcls.storage.runs import PREFLIGHT, SPLITS
from imgcls.storage.tables import SPLIT_COLUMNS, read_csv

Row = Mapping[str, str]
_SHOWN = 5
_LONGEST_PLACE = 32
_LONGEST_FOLD = 9  # digits
_NEEDED = ("path", "label", "split", "fold")


def read_splits(run: Path) -> list[dict[str, str]]:
    """The rows of a run's splits.csv. Raises RunError when it is missing or damaged."""
    file = run / SPLITS
    try:
        rows = read_csv(file)
    except OSError as error:
        raise RunError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise RunError(f"{file}: is damaged ({error}); put it back as it was") from error
    for number, row in enumerate(rows, 2):
        if not _is_whole(row):
            raise RunError(f"{file}: is damaged at row {number}; put it back as it was")
    if not rows:
        raise RunError(f"{file}: has no rows; put it back as it was")
    return rows


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
    ordered = sorted(rows, key=lambda row: row["path"])
    assigned = "\n".join(_place(row) for row in ordered)
    return {
        "sha256": _digest(ordered),
        "assigned": base64.b64encode(zlib.compress(assigned.encode(), 9)).decode(),
    }


def differing(rows: Sequence[Row], kept: Mapping[str, Any] | None) -> str | None:
    """In words, how rows differ from those that a checkpoint was trained by; None where equal.

    kept: its `recorded_splits`; None, of a checkpoint that has none, says nothing.
    """
    if kept is None:
        return None
    ordered = sorted(rows, key=lambda row: row["path"])
    if _digest(ordered) == kept["sha256"]:
        return None
    before = _assigned(kept, len(ordered))
    if len(before) != len(ordered):
        return f"{len(ordered):,} rows are not those that it was trained by"
    moved = [
        f"{row['path']} (was {_said(was)}, is {_said(_place(row))})"
        for row, was in zip(ordered, before, strict=True)
        if _place(row) != was
    ]
    if not moved:
        return "its paths, labels, groups or contents are other ones"
    rest = f" and {len(moved) - _SHOWN:,} more" if len(moved) > _SHOWN else ""
    count = "1 row" if len(moved) == 1 else f"{len(moved):,} rows"
    return f"{count} changed: {', '.join(moved[:_SHOWN])}{rest}"


def trained_by(rows: Sequence[Row], kept: Mapping[str, Any] | None) -> list[Row] | None:
    """The rows with the splits that the checkpoint was trained by, whatever they say now.

    None where that cannot be told, because rows have come or gone.
    """
    if kept is None:
        return list(rows)
    ordered = sorted(rows, key=lambda row: row["path"])
    before = _assigned(kept, len(ordered))
    if len(before) != len(ordered):
        return None
    return [
        {**row, **dict(zip(("split", "fold"), was.split(","), strict=True))}
        for row, was in zip(ordered, before, strict=True)
    ]


def keys_in(rows: Sequence[Row], split: str, fold: int) -> list[str]:
    """The paths of a split, as fold `fold` sees it."""

    def is_in(row: Row) -> bool:
        held_out = row["fold"] == str(fold)
        if split == "val":
            return held_out or row["split"] == "val"
        return row["split"] == split and not held_out

    return [row["path"] for row in rows if is_in(row)]


def _is_whole(row: Row) -> bool:
    if any(name not in row for name in _NEEDED):
        return False
    fold = row["fold"]
    is_fold = fold.isascii() and fold.isdecimal() and len(fold) <= _LONGEST_FOLD
    return row["split"] in ("", "train", "val", "test") and (not fold or is_fold)


def _place(row: Row) -> str:
    return f"{row['split']},{row['fold']}"


def _said(place: str) -> str:
    split, fold = place.split(",")
    return (split or "in no split") + (f" of fold {fold}" if fold else "")


def _assigned(kept: Mapping[str, Any], rows: int) -> list[str]:
    """The split and fold of each row; of a text that is far too long for so many, the beginning."""
    try:
        packed = base64.b64decode(kept["assigned"])
        text = zlib.decompressobj().decompress(packed, (rows + 1) * _LONGEST_PLACE)
        return text.decode().split("\n")
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error):
        return []


def _digest(ordered: Sequence[Row]) -> str:
    digest = hashlib.sha256()
    for row in ordered:
        digest.update(
            "\0".join(row.get(name) or "" for name in SPLIT_COLUMNS).encode(
                "utf-8", "surrogateescape"
            )
        )
        digest.update(b"\n")
    return digest.hexdigest()
