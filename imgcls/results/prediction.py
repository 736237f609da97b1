"""What a prediction leaves: a row for each picture, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgcls.results.comparison import Interval
from imgcls.results.record import Record

UNSURE, UNLIKE = "unsure", "unlike"


def row_columns(top_k: int, *, sets: bool = False) -> tuple[str, ...]:
    """The columns of a row that shows so many classes, and with `sets` the set of those likely."""
    further = (f"{name}_{k}" for k in range(2, top_k + 1) for name in ("label", "probability"))
    own = ("set",) if sets else ()
    return ("path", "label", "probability", *further, *own, "flag", "error")


@dataclass(frozen=True)
class PredictedRow(Record):
    """One picture: its likeliest classes and their probabilities, or why it could not be read.

    members: the classes of its set, the likeliest first, where one was asked for. flag: UNSURE or
    UNLIKE, where the prediction is not to be relied on.
    """

    path: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None
    members: tuple[str, ...] | None = None
    flag: str | None = None

    def values(self, columns: Sequence[str]) -> dict[str, Any]:
        """The row by these columns; None where it has nothing."""
        cells: dict[str, Any] = {"path": self.path, "flag": self.flag, "error": self.error}
        if self.members is not None:
            cells["set"] = list(self.members)
        for k, (label, probability) in enumerate(zip(self.labels, self.probabilities, strict=True)):
            end = f"_{k + 1}" if k else ""
            cells[f"label{end}"], cells[f"probability{end}"] = label, probability
        return {column: cells.get(column) for column in columns}


@dataclass(frozen=True)
class Tally(Record):
    """How many pictures have a row, cannot be read, and are taken for each class.

    flags: pictures with each flag. set_sizes: pictures whose set has so many classes.
    """

    pictures: int = 0
    unreadable: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)
    flags: Mapping[str, int] = field(default_factory=dict)
    set_sizes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ShareShift(Record):
    """A share that differs from that of the run's val pictures, each with its interval.

    of: "class", of pictures predicted as the one of that name, or "flag".
    """

    of: str
    name: str
    share: float
    interval: Interval
    val_share: float
    val_interval: Interval


@dataclass(frozen=True)
class PredictReport(Record):
    """What a prediction came to.

    rows: where no file has them and they were asked for. temperatures: one a checkpoint, None
    where none is kept. left_out: pictures that --new-only passed over. was_finished: the files were
    there already, by the same command, and are as they were. sets, max_error, unlike: as they were
    asked for. drift: where the pictures are spread otherwise than the run's val pictures.
    """

    checkpoint: Path
    model_name: str
    class_names: tuple[str, ...]
    folds: tuple[int, ...]
    tta: str
    temperatures: tuple[float | None, ...]
    tally: Tally
    top_k: int
    backend: str = "torch"
    output: Path | None = None
    features: Path | None = None
    sorted_into: Path | None = None
    left_out: int = 0
    was_finished: bool = False
    elapsed_s: float = 0.0
    scored: int = 0
    notes: tuple[str, ...] = ()
    rows: tuple[PredictedRow, ...] | None = None
    sets: float | None = None
    max_error: float | None = None
    unlike: float | None = None
    drift: tuple[ShareShift, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its rows."""
        return row_columns(self.top_k, sets=self.sets is not None)

    def to_json(self) -> dict[str, Any]:
        """The report as strict-JSON types, each row by its columns."""
        plain = super().to_json()
        plain.update(plain.pop("tally"))
        plain.pop("top_k")
        if self.rows is None:
            plain.pop("rows")
        else:
            plain["rows"] = [row.values(self.columns) for row in self.rows]
        return plain
