"""Predictions as a screen, which is as wide as the terminal, down to 40 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from imgcls.output.console import Console
from imgcls.output.numbers import MISSING, counted, percent, reach
from imgcls.output.screens.screen import facts_table, panel
from imgcls.results.prediction import UNLIKE, UNSURE, PredictedRow, PredictReport, ShareShift

MOST_ROWS = 20
_MOST_CLASSES = 12
# below it the runners-up have no room
_WIDE = 60
# probabilities with one decimal, as shares of so many pictures
_DECIMALS_OF = 1000
_MOST_SHIFTS = 3


def show_predictions(
    console: Console, report: PredictReport, rows: Sequence[PredictedRow] = ()
) -> None:
    """The first rows, what all come to, and where the files are."""
    screens: list[RenderableType] = [_row_table(rows, report, console.out.width)] if rows else []
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
    if report.drift:
        console.warn(_drift_in_words(report))


def _title(report: PredictReport) -> str:
    models = f"{len(report.folds)} folds of " if len(report.folds) > 1 else ""
    return f"{models}{report.model_name}: {counted(report.tally.pictures, 'picture', 'pictures')}"


def _row_table(rows: Sequence[PredictedRow], report: PredictReport, width: int) -> RenderableType:
    """A row a picture; of a narrow terminal the path, the class, its probability and the flag."""
    wide, flagged = width >= _WIDE, report.max_error is not None or report.unlike is not None
    table = Table(box=None, pad_edge=False)
    table.add_column("Picture", overflow="fold")
    table.add_column("Class", overflow="fold")
    table.add_column("", justify="right", no_wrap=True)
    if flagged:
        table.add_column("Flag", no_wrap=True)
    if wide:
        table.add_column("Then" if report.sets is None else "Set", overflow="fold")
    for row in rows:
        if row.error is not None:
            cells = [row.path, f"unreadable: {row.error}"]
            if wide:
                cells = [row.path, "unreadable", "", *[""] * flagged, row.error]
            table.add_row(*cells, style="yellow")
            continue
        (label, *others), (value, *values) = row.labels, row.probabilities
        cells = [row.path, label, percent(value, _DECIMALS_OF)]
        if flagged:
            cells.append(row.flag or "")
        if row.members is not None:
            further = [", ".join(row.members)]
        else:
            pairs = zip(others, values, strict=True)
            further = [", ".join(f"{name} {percent(p, _DECIMALS_OF)}" for name, p in pairs)]
        table.add_row(*cells, *further * wide, style="yellow" if row.flag else None)
    return table


def _facts(report: PredictReport) -> RenderableType:
    facts, tally = facts_table(), report.tally
    classes = sorted(tally.classes.items(), key=lambda item: -item[1])
    told = ", ".join(f"{name}: {count:,}" for name, count in classes[:_MOST_CLASSES])
    if len(classes) > _MOST_CLASSES:
        told += f" and {len(classes) - _MOST_CLASSES:,} more"
    facts.add_row("Classes", told or "-")
    count = tally.pictures - tally.unreadable
    for flag, asked in ((UNSURE, report.max_error), (UNLIKE, report.unlike)):
        if asked is not None:
            flagged = tally.flags.get(flag, 0)
            share = percent(flagged / count, count) if count else MISSING
            facts.add_row(flag.capitalize(), f"{flagged:,} ({share})")
    if report.sets is not None and count:
        sizes = {int(size): number for size, number in tally.set_sizes.items()}
        mean = sum(size * number for size, number in sizes.items()) / count
        single = percent(sizes.get(1, 0) / count, count)
        facts.add_row(f"{report.sets:.4g} sets", f"{mean:.2f} classes on average, {single} of one")
    if tally.unreadable:
        facts.add_row("Unreadable", counted(tally.unreadable, "picture", "pictures"))
    if report.left_out:
        left_out = counted(report.left_out, "picture", "pictures")
        facts.add_row("Left out", f"{left_out} with a row in the earlier file")
    used = [f"{heat:.3f}" for heat in report.temperatures if heat is not None]
    if used:
        facts.add_row("Temperature", ", ".join(used))
    if report.backend != "torch":
        facts.add_row("Backend", report.backend)
    if report.scored and report.elapsed_s:
        facts.add_row("Speed", f"{report.scored / report.elapsed_s:,.0f} pictures/s")
    return facts


def _drift_in_words(report: PredictReport) -> str:
    """The shares that differ most from those of the run's val pictures, in one line."""
    shown = [
        f"{_whole(one.share)} {_of(one)} ({reach(one.interval, _whole)}) and not "
        f"{_whole(one.val_share)} ({reach(one.val_interval, _whole)})"
        for one in report.drift[:_MOST_SHIFTS]
    ]
    more = len(report.drift) - len(shown)
    return (
        "these pictures differ from the run's val pictures: "
        + ", ".join(shown)
        + (f", and {counted(more, 'more class', 'more classes')}" if more else "")
        + " (Clopper-Pearson intervals, wrong in 5% for all shares together)"
    )


def _of(shift: ShareShift) -> str:
    return f"are taken for {shift.name}" if shift.of == "class" else f"are {shift.name} training's"


def _whole(share: float) -> str:
    return percent(share, 0)
