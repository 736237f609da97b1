"""Pictures and one page of an evaluated split, from what the evaluation left on disk."""

from __future__ import annotations

import contextlib
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls.config.files import read_json, read_text
from imgcls.config.report import ReportConfig
from imgcls.engine.training.trackers import count_from_one
from imgcls.errors import DataError, ImgclsError, OutputError, RunError
from imgcls.jobs.page.galleries import galleries_of
from imgcls.metrics.scores import confused_pairs, confusion_counts
from imgcls.output.outputs import require_replaceable
from imgcls.output.pages.evaluation import Evaluation, RunFacts, evaluation_page
from imgcls.output.plots.calibration import draw_confidences, draw_reliability
from imgcls.output.plots.confusion import draw_confusion
from imgcls.output.plots.curves import ClassCurves, draw_precision_recall, draw_roc
from imgcls.output.plots.drawing import Drawing
from imgcls.output.plots.training import draw_training
from imgcls.results.checkpoint import Sidecar
from imgcls.results.evaluation import PageReport
from imgcls.storage.commit import recover
from imgcls.storage.durable import READ_ONLY, why_not_written, write_bytes
from imgcls.storage.evaluations import (
    METRICS,
    PAGE,
    PAGE_FILES,
    PER_CLASS,
    is_evaluation_file,
    read_predictions,
)
from imgcls.storage.pointers import CHECKPOINTS, find_checkpoint, sidecar_of
from imgcls.storage.runs import (
    CONFIG,
    PREFLIGHT,
    SPLITS,
    newest_run_with_checkpoint,
    results_folder,
    run_of,
)
from imgcls.storage.staging import StagedFolders, not_cleared
from imgcls.storage.tables import csv_rows, read_csv

if TYPE_CHECKING:
    from scipy.sparse import csr_array

HISTORY = "history.csv"
_MOST_PAIRS = 20


def report(config: ReportConfig) -> PageReport:
    """Make the page of an evaluated split again. Raises RunError when it was never evaluated."""
    path = config.run or newest_run_with_checkpoint(config.output)
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
    with _of_one_evaluation(folder):
        home = home or folder.parent.parent
        evaluation, confusion, sidecar = _read(folder, home)
        saved, predictions = evaluation.report, evaluation.predictions
        drawings = _drawings(evaluation, confusion, None if sidecar is None else sidecar.epoch)
        run = run_of(home / CONFIG)
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


def _read(folder: Path, home: Path) -> tuple[Evaluation, csr_array, Sidecar | None]:
    """What is on disk, the confusion counts [C, C], and what the checkpoint says of itself."""
    predictions = read_predictions(folder)
    saved = read_json(folder / METRICS)
    names = saved["class_names"]
    confusion = confusion_counts(predictions.labels, predictions.predicted, len(names))
    per_class = [_numbers(row) for row in read_csv(folder / PER_CLASS)]
    if [row["class"] for row in per_class] != names:
        raise ValueError(f"{PER_CLASS} has other classes than {METRICS}")
    # beside the results, wherever the run was moved to
    name = Path(saved["checkpoint"]).name
    # without it the page has no epoch and no versions
    sidecar = sidecar_of(home / CHECKPOINTS / name) or sidecar_of(home / name)
    history = home / HISTORY
    evaluation = Evaluation(
        report=saved,
        predictions=predictions,
        per_class=per_class,
        confusions=confused_pairs(confusion, _MOST_PAIRS),
        history=count_from_one(map(_numbers, read_csv(history))) if history.is_file() else [],
        run=_run_facts(home / CONFIG, saved, sidecar),
    )
    return evaluation, confusion, sidecar


@contextlib.contextmanager
def _of_one_evaluation(folder: Path) -> Iterator[None]:
    """Say which files are no whole evaluation, whatever comes of reading and drawing them.

    Anyone may have changed them, and each value is only looked at where it is shown.
    """
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(
            f"{folder}: its files, or those of its run, do not fit together ({error}); make them "
            "again with `imgcls evaluate`"
        ) from error


def _drawings(
    evaluation: Evaluation, confusion: csr_array, best_epoch: int | None
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
        *([draw_training(evaluation.history, best_epoch)] if _has_epochs(evaluation) else []),
    ]
    return {drawing.name: drawing for drawing in drawings}


def _run_facts(inside: Path, saved: Mapping[str, Any], sidecar: Sidecar | None) -> RunFacts:
    versions = (sidecar and sidecar.versions) or {}
    run = run_of(inside)
    if run is None:
        return RunFacts(versions=versions)
    config = run / CONFIG
    return RunFacts(
        config=read_text(config) if config.is_file() else "",
        counts=_class_counts(run, saved["class_names"], str(saved["fold"])),
        findings=_findings(run / PREFLIGHT),
        versions=versions,
    )


def _class_counts(run: Path, class_names: Sequence[str], fold: str) -> list[dict[str, Any]]:
    """Pictures of each class by split, as the fold sees them; of every fold where fold is "all"."""

    def place(split: str, own: str) -> str:
        if not split:
            return "left out"
        if not own:
            return split
        return f"fold {own}" if fold == "all" else "val" if own == fold else split

    rows = csv_rows(run / SPLITS)
    counted = Counter((row["label"], place(row["split"], row["fold"])) for row in rows)
    held = {where for _, where in counted}
    folds = sorted((w for w in held if w.startswith("fold ")), key=lambda w: (len(w), w))
    usual = [w for w in ("train", "val", "test") if w in held or not folds]
    columns = [*folds, *usual, *(["left out"] if "left out" in held else [])]
    if unknown := {label for label, _ in counted} - set(class_names):
        raise KeyError(*sorted(unknown)[:1])
    return [{"class": n, **{where: counted[n, where] for where in columns}} for n in class_names]


def _findings(file: Path) -> list[tuple[str, str]]:
    if not file.is_file():
        return []
    found = read_json(file)
    return [
        ("Checked before training", f"{found['pictures']:,} pictures"),
        ("Not readable", f"{len(found['unreadable']):,}"),
        ("With an identical copy in another split", f"{found['leaks']:,}"),
        ("With an identical copy under another label", f"{found['conflicts']:,}"),
    ]


def _numbers(row: Mapping[str, str]) -> dict[str, Any]:
    """The cells of a CSV row: the class's name as it is, all others numbers or None."""
    return {key: text if key == "class" else _number(text) for key, text in row.items()}


def _number(text: str) -> float | None:
    if not text:
        return None
    return int(text) if text.lstrip("-").isdecimal() else float(text)


def _has_epochs(evaluation: Evaluation) -> bool:
    return any(row["epoch"] for row in evaluation.history or ())
