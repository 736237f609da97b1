"""Evaluations of a tracked fold, added to its tracked runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from imgcls.config.files import read_json
from imgcls.errors import ImgclsError
from imgcls.output.trackers.process import TrackerError, TrackerProcess
from imgcls.output.trackers.tracker import EvaluationRecord, tracked_fold
from imgcls.storage.evaluations import CONFUSION_MATRIX, METRICS, PAGE, PER_CLASS, PLOTS
from imgcls.storage.pointers import CHECKPOINTS, sidecar_of_last
from imgcls.storage.runs import read_run_config
from imgcls.storage.tables import csv_rows
from imgcls.storage.tracked import keep, read_tracked

# the pages and tables that a reader wants; predictions may be as large as the data
_FILES = (PAGE, METRICS, PER_CLASS, CONFUSION_MATRIX)


def log_evaluation(checkpoint: Path, epoch: int | None, results: Path) -> Iterator[str]:
    """Add the evaluation in the folder `results` to the tracked runs of the checkpoint's fold.

    With it comes what the trackers lack of history.csv. Nothing is done for a fold without. Gives
    what the trackers that failed are to be told of by; raises nothing of theirs.
    """
    fold = checkpoint.parent.parent
    tracked = read_tracked(fold) if checkpoint.parent.name == CHECKPOINTS else None
    last = sidecar_of_last(fold / CHECKPOINTS)
    if tracked is None or last is None:
        return
    try:
        config = read_run_config(fold.parent)
        about = {"data_fingerprint": last.data_fingerprint or ""}
        at = last.epoch or 0
        opened = tracked_fold(fold, config, tracked.key, at, about, trains=False)
        asked = {"rows": _rows(fold, at), "evaluation": evaluation_record(results, epoch).to_json()}
    except (ImgclsError, OSError, ValueError) as error:
        yield f"--log: not told of this evaluation: {error}"
        return
    for name in tracked.names:
        of_tracker = replace(opened, kept=tracked.kept.get(name, {})).to_json()
        reason = _tell(name, fold, of_tracker, asked)
        if reason is not None:
            yield f"--log {name}: not told of this evaluation: {reason}"


def _tell(name: str, fold: Path, opened: Mapping[str, Any], asked: Mapping[str, Any]) -> str | None:
    """Why the tracker failed to do what is asked, or None."""
    try:
        process = TrackerProcess(name, partial(keep, fold, name))
        process.ask(open=opened)
        process.ask(**asked, end="finished")
        process.finish()
        process.close()
    except (TrackerError, OSError) as error:
        return str(error)
    return None


def _rows(fold: Path, epoch: int) -> list[dict[str, float]]:
    """The rows of history.csv that a checkpoint holds."""
    rows = [
        {name: float(cell) for name, cell in row.items() if cell}
        for row in csv_rows(fold / "history.csv")
    ]
    return [row for row in rows if row["epoch"] <= epoch]


def evaluation_record(results: Path, epoch: int | None) -> EvaluationRecord:
    """What trackers log of an evaluation; epoch: of its checkpoint. Raises as `read_json`."""
    metrics = read_json(results / METRICS)["metrics"]
    images = [results / f"{name}.png" for name in PLOTS]
    return EvaluationRecord(
        results.name,
        epoch or 0,
        {name: float(value) for name, value in metrics.items() if value is not None},
        [str(file) for file in images if file.is_file()],
        [str(results / name) for name in _FILES if (results / name).is_file()],
    )
