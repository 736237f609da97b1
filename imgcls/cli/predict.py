"""`imgcls predict`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgcls.cli.options import Common, add_command, new_app
from imgcls.cli.processes.launch import launch_if_several
from imgcls.config.predict import PredictConfig

if TYPE_CHECKING:
    from imgcls.results.prediction import PredictedRow

app = new_app()


def predict(config: PredictConfig, common: Common) -> None:
    """Classify pictures with a trained model.

    Each picture has a row: on the terminal, in a pipe as CSV, or in the file of --output.
    """
    from imgcls.jobs.early import check_checkpoint, check_file, check_inputs
    from imgcls.output.console import Console

    console = Console(quiet=common.quiet, json=common.json)
    check_inputs(config.inputs)
    check_checkpoint(config.checkpoint)
    check_file("--new-only", config.new_only)
    console.say("Loading torch ...", transient=True)
    from imgcls.engine.device.runtime import keep_freed_memory
    from imgcls.jobs.predict.predict import predict as job
    from imgcls.output.numbers import counted
    from imgcls.output.screens.predict import MOST_ROWS, show_notes, show_predictions
    from imgcls.storage.prediction_rows import csv_of, csv_titles

    launch_if_several(config.devices, config.device)
    keep_freed_memory()
    kept: list[PredictedRow] = []
    is_file = config.output is not None or config.features is not None
    in_a_pipe = not (is_file or common.json or sys.stdout.isatty())
    titled = False

    def on_rows(rows: Sequence[PredictedRow], columns: Sequence[str]) -> bool:
        nonlocal titled
        if in_a_pipe:
            titles = b"" if titled else csv_titles(columns)
            titled = True
            return console.rows(titles + csv_of(columns, rows))
        kept.extend(rows if common.json else rows[: MOST_ROWS - len(kept)])
        return True

    with console.progress("Predicting", "pictures") as on_progress:
        report = job(config, on_rows, on_progress if console.live else None, console.say)
    if in_a_pipe:
        if not titled:
            console.rows(csv_titles(report.columns))
        bad = report.tally.unreadable
        told = f", {bad:,} of them unreadable" if bad else ""
        console.say(counted(report.tally.pictures, "picture", "pictures") + told)
        show_notes(console, report)
        return
    if common.json and not is_file:
        from dataclasses import replace

        report = replace(report, rows=tuple(kept))
    show_predictions(console, report, kept)


add_command(
    app,
    "predict",
    PredictConfig,
    predict,
    examples=(
        "imgcls predict photos/new",
        "imgcls predict photos/new --output preds.csv --sort-into sorted",
        "find /data -name '*.jpg' | imgcls predict - --output preds.parquet",
    ),
)
