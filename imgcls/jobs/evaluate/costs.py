"""What mistakes cost: the table that a user gives, and what decisions come to by it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.config.files import open_file
from imgcls.errors import DataError
from imgcls.metrics.decisions import least_cost_classes
from imgcls.metrics.intervals import resampled_intervals
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.resampling import Resampler


@dataclass(frozen=True, eq=False)
class CostTable:
    """costs: float64 [C, C], of deciding for the column's class where the row's is true."""

    file: Path
    costs: np.ndarray


def read_costs(file: Path, class_names: Sequence[str]) -> CostTable:
    """The table in a CSV file, put into the order of the model's classes.

    The first row names the classes decided for, the first column the true ones. Raises DataError
    for a class that is missing, named twice or unknown, and for a cell that is no finite number.
    """
    try:
        with io.TextIOWrapper(open_file(file), encoding="utf-8-sig", newline="") as stream:
            rows = [[cell.strip() for cell in row] for row in csv.reader(stream) if any(row)]
    except FileNotFoundError:
        raise DataError(f"--costs {file}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"--costs {file}: cannot be read as CSV ({error})") from error
    if not rows:
        raise DataError(f"--costs {file}: is empty")
    columns = _positions(file, "first row", rows[0][1:], class_names)
    lines = _positions(file, "first column", [row[0] for row in rows[1:]], class_names)
    costs = np.empty((len(class_names), len(class_names)))
    for name, line in zip(class_names, lines, strict=True):
        cells = rows[1 + line][1:]
        for index, column in enumerate(columns):
            cell = cells[column] if column < len(cells) else ""
            costs[class_names.index(name), index] = _number(file, name, class_names[index], cell)
    return CostTable(file, costs)


def expected_costs(
    predictions: Predictions, table: CostTable, resampler: Resampler | None
) -> dict[str, Any]:
    """What a picture costs on average: by the predicted class, and by the cheapest decision.

    Each with its bootstrap interval, and what the cheapest decision saves with the interval of
    that; `changed` counts the pictures for which the two decide differently.
    """
    cheapest = least_cost_classes(predictions, table.costs)
    labels = predictions.labels
    by_rule = {
        "predicted": table.costs[labels, predictions.predicted],
        "least_cost": table.costs[labels, cheapest],
    }
    by_rule["saved"] = by_rule["predicted"] - by_rule["least_cost"]

    def means(weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(axis=1)
        return {name: weights @ costs / total for name, costs in by_rule.items()}

    intervals = (
        {}
        if resampler is None
        else resampled_intervals(means, resampler, limits=lambda _name: (-math.inf, math.inf))
    )
    return {
        "file": table.file,
        **{
            name: {
                "mean": float(costs.mean()),
                "interval": intervals.get(name),
            }
            for name, costs in by_rule.items()
        },
        "changed": int((cheapest != predictions.predicted).sum()),
    }


def _positions(
    file: Path, where: str, names: Sequence[str], class_names: Sequence[str]
) -> list[int]:
    """Where each of the model's classes stands among the names of a table's edge."""
    unknown = [name for name in names if name not in class_names]
    missing = [name for name in class_names if names.count(name) != 1]
    if unknown or missing:
        problem = (
            f"{unknown[0]!r} is no class of the model"
            if unknown
            else f"class {missing[0]!r} must stand in it once"
        )
        raise DataError(
            f"--costs {file}: {problem} ({where}); the classes are {', '.join(class_names)}"
        )
    return [names.index(name) for name in class_names]


def _number(file: Path, true: str, decided: str, cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"--costs {file}: {cell!r} for true {true!r}, decided {decided!r}, is not a number"
        )
    return value
