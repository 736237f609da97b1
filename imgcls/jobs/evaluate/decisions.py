"""From scores to decisions: when to answer, from which score on, at what cost, and good enough?"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.config.evaluate import EvaluateConfig
from imgcls.config.files import open_file
from imgcls.errors import ConfigError, DataError, ThresholdError
from imgcls.jobs.evaluate.scored import Scored
from imgcls.metrics.decisions import coverage_table, least_cost_classes, operating_points
from imgcls.metrics.intervals import resampled_intervals
from imgcls.metrics.registry import all_metrics
from imgcls.results.evaluation import Costs, EvalReport, MeanCost, ThresholdCheck


def decisions(scored: Scored) -> dict[str, Any]:
    """When to answer, and from which score on each class is worth saying."""
    points = operating_points(scored.predictions, scored.class_names, scored.groups)
    return {"coverage": coverage_table(scored.predictions), "operating_points": points}


def costs(scored: Scored) -> dict[str, Any]:
    """What a picture costs on average: by the predicted class, and by the cheapest decision.

    Each with its bootstrap interval, and what the cheapest decision saves with the interval of
    that; `changed` counts the pictures for which the two decide differently.
    """
    table, predictions = scored.session.costs, scored.predictions
    if table is None:
        return {}
    cheapest = least_cost_classes(predictions, table)
    labels = predictions.labels
    by_rule = {
        "predicted": table[labels, predictions.predicted],
        "least_cost": table[labels, cheapest],
    }
    by_rule["saved"] = by_rule["predicted"] - by_rule["least_cost"]

    def means(weights: np.ndarray) -> dict[str, np.ndarray]:
        total = weights.sum(axis=1)
        return {name: weights @ each / total for name, each in by_rule.items()}

    intervals = (
        {}
        if scored.resampler is None
        else resampled_intervals(
            means, scored.resampler, limits=lambda _name: (-math.inf, math.inf)
        )
    )
    rules = {
        name: MeanCost(float(each.mean()), intervals.get(name)) for name, each in by_rule.items()
    }
    notes: tuple[str, ...] = ()
    if rules["saved"].mean < 0:
        note = "decisions of the least expected cost cost more than the predicted classes here"
        notes = (f"{note}: the probabilities are not to be taken at their word",)
    changed = int((cheapest != predictions.predicted).sum())
    file = scored.session.config.costs
    assert file is not None
    return {"costs": Costs(file, **rules, changed=changed), "notes": notes}


def read_costs(file: Path, class_names: Sequence[str]) -> np.ndarray:
    """The table in a CSV file, float64 [C, C], in the order of the model's classes.

    It holds what it costs to decide for the column's class where the row's is true. The first row
    names the classes decided for, the first column the true ones. Raises DataError for a class that
    is missing, named twice or unknown, and for a cell that is no finite number.
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
    table = np.empty((len(class_names), len(class_names)))
    for name, line in zip(class_names, lines, strict=True):
        cells = rows[1 + line][1:]
        for index, column in enumerate(columns):
            cell = cells[column] if column < len(cells) else ""
            table[class_names.index(name), index] = _number(file, name, class_names[index], cell)
    return table


def require_thresholds(config: EvaluateConfig) -> None:
    """Check `--fail-under`: ConfigError for a metric not computed, or better when it is lower."""
    known = [metric.name for metric in all_metrics(config.top_k) if metric.higher_is_better]
    for name in config.fail_under:
        if name not in known:
            raise ConfigError(f"--fail-under {name}: choose from {', '.join(known)}")


def checked_thresholds(
    metrics: Mapping[str, Any], thresholds: Mapping[str, float]
) -> dict[str, ThresholdCheck]:
    """Whether each metric reached its threshold; an undefined metric does not."""
    return {
        name: ThresholdCheck(
            value=metrics[name],
            at_least=threshold,
            passed=metrics[name] is not None and metrics[name] >= threshold,
        )
        for name, threshold in thresholds.items()
    }


def check_thresholds(report: EvalReport) -> None:
    """Raise ThresholdError, which exits with 1, when a metric is below its threshold."""
    failed = [
        f"{name} is {'undefined' if found.value is None else format(found.value, '.4f')}, "
        f"below {found.at_least:g}"
        for name, found in report.thresholds.items()
        if not found.passed
    ]
    if failed:
        raise ThresholdError(f"--fail-under: {'; '.join(failed)}")


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
