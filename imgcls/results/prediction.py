"""What a prediction leaves: a row for each picture, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgcls.results.record import Record


def row_columns(top_k: int) -> tuple[str, ...]:
    """The columns of a row that shows so many classes."""
    further = (f"{name}_{k}" for k in range(2, top_k + 1) for name in ("label", "probability"))
    return ("path", "label", "probability", *further, "error")


@dataclass(frozen=True)
class PredictedRow(Record):
    """One picture: its likeliest classes and their probabilities, or why it could not be read."""

    path: str
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    error: str | None = None

    def values(self, columns: Sequence[str]) -> dict[str, Any]:
        """The row by these columns; None where it has nothing."""
        cells: dict[str, Any] = {"path": self.path, "error": self.error}
        for k, (label, probability) in enumerate(zip(self.labels, self.probabilities, strict=True)):
            end = f"_{k + 1}" if k else ""
            cells[f"label{end}"], cells[f"probability{end}"] = label, probability
        return {column: cells.get(column) for column in columns}


@dataclass(frozen=True)
class Tally(Record):
    """How many pictures have a row, cannot be read, and are taken for each class."""

    pictures: int = 0
    unreadable: int = 0
    classes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PredictReport(Record):
    """What a prediction came to.

    rows: where no file has them and they were asked for. temperatures: one a checkpoint, None
    where none is kept. left_out: pictures that --new-only passed over. was_finished: the files were
    there already, by the same command, and are as they were.
    """

    checkpoint: Path
    model_name: str
    class_names: tuple[str, ...]
    folds: tuple[int, ...]
    tta: str
    temperatures: tuple[float | None, ...]
    tally: Tally
    top_k: int
    output: Path | None = None
    features: Path | None = None
    sorted_into: Path | None = None
    left_out: int = 0
    was_finished: bool = False
    elapsed_s: float = 0.0
    scored: int = 0
    notes: tuple[str, ...] = ()
    rows: tuple[PredictedRow, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The report as strict-JSON types, each row by its columns."""
        plain = super().to_json()
        plain.update(plain.pop("tally"))
        columns = row_columns(plain.pop("top_k"))
        if self.rows is None:
            plain.pop("rows")
        else:
            plain["rows"] = [row.values(columns) for row in self.rows]
        return plain
