"""What became of another trainer's file, on the screen."""

from __future__ import annotations

import shlex

from imgcls.output.console import Console
from imgcls.output.numbers import percent
from imgcls.output.screens.screen import facts_table, panel, prose
from imgcls.results.training import ImportReport


def show_import(console: Console, report: ImportReport) -> None:
    """What was found in the file, where it lies now, what to check and what to type next."""
    facts = facts_table()
    for title, text in report.facts.items():
        facts.add_row(title, prose(text))
    if report.validation is not None:
        accuracy, balanced = (
            report.validation[f"val_{n}"] for n in ("accuracy", "balanced_accuracy")
        )
        loss = report.validation["val_loss"]
        count = report.val_pictures
        facts.add_row(
            "Validation",
            f"accuracy {percent(accuracy, count)}, balanced {percent(balanced, count)}, "
            f"loss {'-' if loss is None else f'{loss:.4f}'}",
        )
    console.result(report, panel("Imported", facts))
    for note in report.notes:
        console.warn(note)
    if report.run is None:
        console.path("Checkpoint", str(report.checkpoint))
        console.path("Next", f"imgcls evaluate {shlex.quote(str(report.checkpoint))} --data DATA")
        return
    console.path("Run", str(report.run))
    run = shlex.quote(str(report.run))
    if report.epochs is None:
        console.path("Next", f"imgcls evaluate {run}")
    elif report.epochs > (report.epoch or 0):
        console.path("Next", f"imgcls resume {run}")
    else:
        console.path("Next", f"imgcls resume {run} --epochs N")
