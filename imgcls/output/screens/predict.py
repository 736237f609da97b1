"""Predictions as a screen, which is as wide as the terminal, down to 40 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from imgcls.output.console import Console
from imgcls.output.numbers import counted, percent
from imgcls.output.screens.screen import facts_table, panel
from imgcls.results.prediction import PredictedRow, PredictReport

MOST_ROWS = 20
_MOST_CLASSES = 12
# below it the runners-up have no room
_WIDE = 60
# probabilities with one decimal, as shares of so many pictures
_DECIMALS_OF = 1000


def show_predictions(
    console: Console, report: PredictReport, rows: Sequence[PredictedRow] = ()
) -> None:
    """The first rows, what all come to, and where the files are."""
    screens: list[RenderableType] = [_row_table(rows, console.out.width)] if rows else []
    more = report.tally.pictures - len(rows)
    if rows and more:
        screens.append(f"and {counted(more, 'more picture', 'more pictures')}")
    console.result(report.to_json(), *screens, panel(_title(report), _facts(report)))
    for label, path in (
        ("Predictions", report.output),
        ("Features", report.features),
        ("Sorted into", report.sorted_into),
    ):
        if path is not None:
            console.path(label, str(path))
    show_notes(console, report)


def show_notes(console: Console, report: PredictReport) -> None:
    """What the user should know beside the rows."""
    if report.was_finished:
        console.warn("this prediction is finished already, and its files are as they were")
    for note in report.notes:
        console.warn(note)


def _title(report: PredictReport) -> str:
    models = f"{len(report.folds)} folds of " if len(report.folds) > 1 else ""
    return f"{models}{report.model_name}: {counted(report.tally.pictures, 'picture', 'pictures')}"


def _row_table(rows: Sequence[PredictedRow], width: int) -> RenderableType:
    table = Table(box=None, pad_edge=False)
    table.add_column("Picture", overflow="fold")
    table.add_column("Class", overflow="fold")
    table.add_column("", justify="right", no_wrap=True)
    if width >= _WIDE:
        table.add_column("Then", overflow="fold")
    for row in rows:
        if row.error is not None:
            cells = [row.path, f"unreadable: {row.error}"]
            if width >= _WIDE:
                cells = [row.path, "unreadable", "", row.error]
            table.add_row(*cells, style="yellow")
            continue
        (label, *others), (value, *values) = row.labels, row.probabilities
        cells = [row.path, label, percent(value, _DECIMALS_OF)]
        if width >= _WIDE:
            further = zip(others, values, strict=True)
            cells.append(", ".join(f"{name} {percent(p, _DECIMALS_OF)}" for name, p in further))
        table.add_row(*cells)
    return table


def _facts(report: PredictReport) -> RenderableType:
    facts, tally = facts_table(), report.tally
    classes = sorted(tally.classes.items(), key=lambda item: -item[1])
    told = ", ".join(f"{name}: {count:,}" for name, count in classes[:_MOST_CLASSES])
    if len(classes) > _MOST_CLASSES:
        told += f" and {len(classes) - _MOST_CLASSES:,} more"
    facts.add_row("Classes", told or "-")
    if tally.unreadable:
        facts.add_row("Unreadable", counted(tally.unreadable, "picture", "pictures"))
    if report.left_out:
        left_out = counted(report.left_out, "picture", "pictures")
        facts.add_row("Left out", f"{left_out} with a row in the earlier file")
    used = [f"{heat:.3f}" for heat in report.temperatures if heat is not None]
    if used:
        facts.add_row("Temperature", ", ".join(used))
    if report.scored and report.elapsed_s:
        facts.add_row("Speed", f"{report.scored / report.elapsed_s:,.0f} pictures/s")
    return facts
