"""Pictures and one page of an evaluated split, from what the evaluation left on disk."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls.config.report import ReportConfig
from imgcls.errors import ImgclsError, OutputError, RunError
from imgcls.jobs.page.evaluated import of_one_evaluation, read_evaluated
from imgcls.jobs.page.galleries import galleries_of
from imgcls.output.outputs import require_replaceable
from imgcls.output.pages.evaluation import Evaluation, evaluation_page
from imgcls.output.plots.calibration import draw_confidences, draw_reliability
from imgcls.output.plots.confusion import draw_confusion
from imgcls.output.plots.curves import ClassCurves, draw_precision_recall, draw_roc
from imgcls.output.plots.drawing import Drawing
from imgcls.output.plots.training import draw_training
from imgcls.results.evaluation import PageReport
from imgcls.storage.commit import recover
from imgcls.storage.durable import READ_ONLY, why_not_written, write_bytes
from imgcls.storage.ensembles import is_ensemble, member_runs, newest_with_checkpoint
from imgcls.storage.evaluations import (
    METRICS,
    PAGE,
    PAGE_FILES,
    is_evaluation_file,
)
from imgcls.storage.pointers import find_checkpoint
from imgcls.storage.runs import (
    CONFIG,
    results_folder,
    run_of,
)
from imgcls.storage.staging import StagedFolders, not_cleared

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from imgcls.results.checkpoint import Sidecar


def report(config: ReportConfig) -> PageReport:
    """Make the page of an evaluated split again. Raises RunError when it was never evaluated."""
    path = config.run or newest_with_checkpoint(config.output)
    folder = _evaluated(config, path)
    into = folder
    if config.results_dir is not None and not folder.is_relative_to(config.results_dir):
        into = config.results_dir / config.split
    if config.results_dir is not None and into.exists():
        for name in PAGE_FILES:
            require_replaceable("--results-dir:", into / name, force=config.force)
    try:
        with StagedFolders(is_evaluation_file) as staged:
            new = staged.stage(into, _is_kept)
            made = make_page(folder, _home(path, folder, config.fold), new)
            error = staged.commit()
            return replace(
                made,
                notes=(*made.notes, *([not_cleared("the page is", error)] if error else [])),
                page=staged.final(made.page),
                pictures=tuple(map(staged.final, made.pictures)),
            )
    except OSError as error:
        why = why_not_written(error)
        if error.errno in READ_ONLY:
            raise RunError(
                f"{into}: cannot be written: {why}; name a folder for the page with "
                "--results-dir DIR"
            ) from error
        raise OutputError(f"{into}: cannot be written: {why}") from error


def _is_kept(name: str) -> bool:
    return is_evaluation_file(name) and name not in PAGE_FILES


def _evaluated(config: ReportConfig, path: Path) -> Path:
    """The folder of what was evaluated. Raises RunError when nothing was."""
    elsewhere = [] if config.results_dir is None else [config.results_dir]
    places = []
    if config.fold is None:
        # the pooled folds and their average lie beside the folds
        places = [*elsewhere, path / "test_results"]
    if (found := _first_evaluated(places, config.split)) is not None:
        return found
    own = results_folder(find_checkpoint(path, config.fold))
    places = [*(folder / own.parent.name for folder in elsewhere), own]
    if (found := _first_evaluated(places, config.split)) is not None:
        return found
    present = sorted(file.parent.name for file in own.glob(f"*/{METRICS}"))
    has = f"; evaluated: {', '.join(present)}" if present else ""
    raise RunError(
        f"{path}: its split {config.split} was not evaluated{has}; evaluate it with "
        f"`imgcls evaluate {shlex.quote(str(path))} --split {config.split}`"
    )


def _first_evaluated(places: Sequence[Path], split: str) -> Path | None:
    for folder in (place / split for place in places):
        with contextlib.suppress(OSError):  # a read-only run is taken as it is
            recover(folder, is_evaluation_file)
        if (folder / METRICS).is_file():
            return folder
    return None


def _home(path: Path, folder: Path, fold: int | None) -> Path | None:
    """The run or fold that was evaluated; None where the results lie in its own folder."""
    if folder.parent.name == "test_results":
        return None
    try:
        return results_folder(find_checkpoint(path, fold)).parent
    except ImgclsError:  # several folds together
        return path


def make_page(folder: Path, home: Path | None = None, into: Path | None = None) -> PageReport:
    """Draw the pictures of an evaluated split and write `report.html` beside them.

    home: the run or fold that was evaluated, where the files do not lie in its `test_results/`.
    into: another folder for the page and the pictures. Needs the files that `imgcls evaluate`
    wrote, neither the model nor a second pass. Where the images' own files have gone, the page is
    made without them and a note says so. Raises DataError when the files are not whole or not of
    one evaluation, OSError when nothing can be written.
    """
    into = into or folder
    with of_one_evaluation(folder):
        home = home or folder.parent.parent
        evaluation, confusion, sidecar = read_evaluated(folder, home)
        saved, predictions = evaluation.report, evaluation.predictions
        drawings = _drawings(evaluation, confusion, sidecar)
        # of an ensemble each run has the same pictures
        run = member_runs(home)[0] if is_ensemble(home) else run_of(home / CONFIG)
        galleries, notes = galleries_of(folder, saved, predictions, sidecar, run)
        if "sha256" not in saved:
            notes.append(
                f"{METRICS} is of an earlier version, without hashes: whether the files beside it "
                "are of the same evaluation was not checked"
            )
        files = [file for drawing in drawings.values() for file in drawing.files()]
        page = evaluation_page(evaluation, drawings, galleries, notes).encode("utf-8")
    for name, content in (*files, (PAGE, page)):
        write_bytes(into / name, content)
    pictures = tuple(into / f"{name}.png" for name in drawings)
    return PageReport(page=into / PAGE, pictures=pictures, notes=tuple(notes))


def _drawings(
    evaluation: Evaluation, confusion: csr_array, sidecar: Sidecar | None
) -> dict[str, Drawing]:
    predictions, names = evaluation.predictions, evaluation.report["class_names"]
    metrics, per_class = evaluation.report["metrics"], evaluation.per_class
    panels = [("", predictions)]
    if predictions.temperature != 1.0:
        panels = [
            ("Before calibration", replace(predictions, temperature=1.0)),
            (f"Calibrated, temperature {predictions.temperature:.3g}", predictions),
        ]
    curves = ClassCurves(predictions)
    drawings = [
        draw_confusion(confusion, names, normalized=False),
        draw_confusion(confusion, names, normalized=True),
        draw_roc(curves, metrics, per_class),
        draw_precision_recall(curves, metrics, per_class),
        draw_reliability(panels),
        draw_confidences(predictions),
        # a fitted classifier alone has no curve
        *([_training(evaluation, sidecar)] if _has_epochs(evaluation) else []),
    ]
    return {drawing.name: drawing for drawing in drawings}


def _training(evaluation: Evaluation, sidecar: Sidecar | None) -> Drawing:
    if sidecar is None:
        return draw_training(evaluation.history, None, None)
    return draw_training(evaluation.history, sidecar.epoch, sidecar.share)


def _has_epochs(evaluation: Evaluation) -> bool:
    return any(row["epoch"] for row in evaluation.history or ())
