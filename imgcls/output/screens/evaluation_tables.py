"""The tables below an evaluation's headline: slices, comparison, corruptions, thresholds."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import RenderableType

from imgcls.output.metric_names import metric_title, metric_writer
from imgcls.output.numbers import MISSING, percent, reach, score
from imgcls.output.screens.screen import titled_table
from imgcls.output.screens.unknown import conformal_lines, unlike_lines
from imgcls.results.comparison import Comparison
from imgcls.results.evaluation import Corruptions, EvalReport, ThresholdCheck

_MOST_ROWS = 12
_MOST_CHANGES = 5


def further_tables(report: EvalReport) -> list[RenderableType]:
    """The tables of what was asked for, each with an empty line above it."""
    tables = _slices(report)
    if report.comparison is not None:
        tables += _comparison(report.comparison, report.metrics["samples"])
    if report.corruptions is not None:
        tables += ["", _corruptions(report.corruptions, report.metrics["samples"])]
    if report.conformal is not None:
        tables += ["", *conformal_lines(report.conformal)]
    if report.unlike is not None:
        tables += ["", *unlike_lines(report.unlike)]
    if report.thresholds:
        tables += ["", _thresholds(report.thresholds)]
    return tables


def _slices(report: EvalReport) -> list[RenderableType]:
    tables: list[RenderableType] = []
    for column, rows in report.slices.items():
        name = column
        titles = ("Pictures", "Balanced acc.", "95% interval", "F1 (macro)", "NLL")
        table = titled_table(f"By {name}", name, *titles)
        for row in rows[:_MOST_ROWS]:
            metrics, interval = row.metrics, row.intervals.get("balanced_accuracy")
            written = metric_writer("balanced_accuracy", row.samples)
            table.add_row(
                row.value or "(empty)",
                str(row.samples),
                written(metrics["balanced_accuracy"]),
                reach(interval, written) or MISSING,
                written(metrics["f1_macro"]),
                score(metrics["nll"]),
            )
        more = len(rows) - _MOST_ROWS
        tables += ["", table, *([f"and {more} more in test_metrics.json"] if more > 0 else [])]
    return tables


def _comparison(comparison: Comparison, pictures: int) -> list[RenderableType]:
    table = titled_table("", "", "This", "Other", "Difference", "95% interval")
    against = f"Against {comparison.checkpoint}"  # a path, folded by nobody but the terminal
    for name, row in comparison.metrics.items():
        written = metric_writer(name, pictures)
        table.add_row(
            metric_title(name),
            written(row.this),
            written(row.other),
            written(row.difference),
            reach(row.interval, written) or MISSING,
        )
    sides = comparison.mcnemar
    words = (
        f"Right only here {sides.only_this_right}, right only there "
        f"{sides.only_other_right}: McNemar's exact p = {sides.p_value:.3g}"
    )
    changes = [each for each in comparison.per_class if each.difference][:_MOST_CHANGES]
    if not changes:
        return ["", against, table, words]
    classes = titled_table(
        "Recall that changed most", "Class", "Pictures", "This", "Other", "Change"
    )
    for each in changes:
        numbers = (percent(side, each.support) for side in (each.this, each.other, each.difference))
        classes.add_row(each.class_name, str(each.support), *numbers)
    return ["", against, table, words, "", classes]


def _corruptions(corruptions: Corruptions, pictures: int) -> RenderableType:
    severities = len(corruptions.by_corruption[0].severities)
    table = titled_table(
        "Accuracy on worse pictures, by severity",
        "Corruption", *(str(i + 1) for i in range(severities)), "Mean", "Drop",
    )  # fmt: skip
    for row in corruptions.by_corruption:
        table.add_row(
            row.corruption.replace("_", " "),
            *(percent(scores.accuracy, pictures) for scores in row.severities),
            percent(row.mean.accuracy, pictures),
            percent(row.drop.accuracy, pictures),
        )
    overall = (percent(side.accuracy, pictures) for side in (corruptions.mean, corruptions.drop))
    table.add_row("all", *[""] * severities, *overall)
    return table


def _thresholds(thresholds: Mapping[str, ThresholdCheck]) -> RenderableType:
    table = titled_table("Thresholds", "Metric", "Value", "At least", "")
    for name, found in thresholds.items():
        passed = "reached" if found.passed else "missed"
        table.add_row(name, score(found.value), f"{found.at_least:g}", passed)
    return table
