"""The files of one evaluated split, written and read back.

explanations/
  index.csv            path of the picture, file, method
  000.jpg  001.jpg ... the model's input under a map of heat, worst mistake first
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from imgcls.config.files import read_json, sha256_of
from imgcls.errors import DataError
from imgcls.metrics.decisions import least_cost_classes
from imgcls.metrics.predictions import Predictions, blocks
from imgcls.results.evaluation import EvalReport
from imgcls.storage.bad_images import BAD_IMAGES, add_bad_images
from imgcls.storage.durable import TEMPORARY_PREFIX, write_bytes
from imgcls.storage.scores import read_scores
from imgcls.storage.tables import csv_rows, read_csv, write_csv, write_json

if TYPE_CHECKING:
    from PIL import Image

LOGITS, METRICS, PREDICTIONS = "logits.npy", "test_metrics.json", "predictions.csv"
PER_CLASS, CONFUSION_MATRIX, PAGE = "per_class.csv", "confusion_matrix.csv", "report.html"
PLOTS = (
    "confusion_matrix", "confusion_matrix_normalized", "roc_curves", "pr_curves", "reliability",
    "confidence", "training_curves",
)  # fmt: skip
PAGE_FILES = (PAGE, *(f"{name}.{kind}" for name in PLOTS for kind in ("png", "svg")))
FORMAT = "imgcls-evaluation"
CHANGED, CHANGED_COLUMNS = "changed.csv", ("path", "label", "this", "other", "now_right")
EXPLANATIONS = "explanations"
GRAD_CAM, ROLLOUT = "Grad-CAM", "attention rollout"
_INDEX, _INDEX_COLUMNS = "index.csv", ("path", "file", "method")
# beyond it, one column a class would make a table that nothing opens
MOST_PROBABILITY_COLUMNS = 100
_CELLS_PER_TEXT = 64  # a number takes that many times the memory as text, with its row

_TABLES = (LOGITS, PREDICTIONS, PER_CLASS, CONFUSION_MATRIX, CHANGED, BAD_IMAGES)
_OURS = re.compile(
    "|".join(re.escape(name) for name in (*_TABLES, METRICS, *PAGE_FILES))
    + rf"|{EXPLANATIONS}/(index\.csv|\d+\.jpg)"
    + rf"|{re.escape(TEMPORARY_PREFIX)}.*"  # left by a process that was killed
)


def is_evaluation_file(name: str) -> bool:
    """Whether an evaluation writes a file of this name; "/" stands between folder and file."""
    return _OURS.fullmatch(name) is not None


def write_evaluation(
    folder: Path, report: EvalReport, predictions: Predictions, costs: np.ndarray | None = None
) -> None:
    """Write the files of one evaluated split, into the new folder where its logits.npy lies.

    folder/
      logits.npy             float32 [N, C], unnormalised, rows as in predictions.csv
      predictions.csv        a column of probability for each class, up to 100 classes
      per_class.csv
      confusion_matrix.csv   up to 2,000 classes
      changed.csv            with --compare: the pictures that changed sides
      bad_images.csv         only where pictures were left out
      test_metrics.json      with the SHA-256 of each of the others
    """
    _write_predictions(folder / PREDICTIONS, report.class_names, predictions, costs)
    per_class = [row.to_json() for row in report.per_class]
    write_csv(folder / PER_CLASS, list(per_class[0]), per_class)
    if report.confusion_matrix:
        _write_confusion_matrix(folder / CONFUSION_MATRIX, report)
    if report.comparison is not None:
        changed = (picture.to_json() for picture in report.comparison.changed)
        write_csv(folder / CHANGED, CHANGED_COLUMNS, changed)
    add_bad_images(folder, report.bad_images)
    write_metrics(folder, report)


def write_metrics(folder: Path, report: EvalReport) -> None:
    """Write `test_metrics.json` alone; it names the files beside it by their hashes."""
    calibration = report.calibration
    present = [folder / name for name in _TABLES if (folder / name).is_file()]
    write_json(
        folder / METRICS,
        {
            "format": FORMAT,
            "checkpoint": report.checkpoint,
            "model_name": report.model_name,
            "split": report.split,
            "fold": report.fold,
            "data": report.data,
            "class_names": report.class_names,
            "temperature": 1.0 if calibration is None else calibration.temperature,
            "metrics": report.metrics,
            "undefined": report.undefined,
            "confusions": report.confusions,
            "intervals": report.intervals,
            "intervals_method": report.intervals_method,
            "calibration": report.calibration,
            "cross_validation": report.cross_validation,
            "ensemble": report.ensemble,
            "coverage": report.coverage,
            "operating_points": report.operating_points,
            "costs": report.costs,
            "slices": report.slices,
            "comparison": report.comparison,
            "corruptions": report.corruptions,
            "thresholds": report.thresholds,
            "speed_metrics": report.speed_metrics,
            "notes": list(report.notes),
            "prior": report.prior,
            "trained_on": report.trained_on,
            "conformal": report.conformal,
            "unlike": report.unlike,
            "sha256": {file.name: sha256_of(file) for file in present},
        },
    )


def is_evaluation(folder: Path) -> bool:
    """Whether the folder holds what `imgcls evaluate` wrote, by the mark in its JSON file."""
    try:
        metrics = read_json(folder / METRICS)
        return bool(metrics["format"] == FORMAT)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def read_predictions(folder: Path) -> Predictions:
    """The predictions of an evaluated split, its logits memory-mapped.

    Raises DataError when the files are not whole, or not of one evaluation. Only N float32 rows are
    mapped; the probabilities follow from them and the temperature.
    """
    try:
        metrics = read_json(folder / METRICS)
        _require_one_evaluation(folder, metrics)
        logits = read_scores(folder / LOGITS)
        position = {name: index for index, name in enumerate(metrics["class_names"])}
        keys: list[str] = []
        labels: list[int] = []
        for row in csv_rows(folder / PREDICTIONS):
            keys.append(row["path"])
            labels.append(position[row["label"]])
        return Predictions(
            keys=tuple(keys),
            logits=logits,
            labels=np.array(labels, dtype=np.int64),
            temperature=metrics["temperature"],
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError) as error:
        raise DataError(
            f"{folder}: no whole set of evaluation files ({error}); make them with "
            "`imgcls evaluate`"
        ) from error


def _require_one_evaluation(folder: Path, metrics: Mapping[str, Any]) -> None:
    # those of earlier versions have no hashes
    for name, sha256 in metrics.get("sha256", {}).items():
        if name in _TABLES and sha256_of(folder / name) != sha256:
            raise DataError(
                f"{folder}: {name} is not the file that {METRICS} was written beside, it is of "
                "another evaluation or was changed; make them again with `imgcls evaluate`"
            )


def _write_confusion_matrix(file: Path, report: EvalReport) -> None:
    corner, names = "true \\ predicted", report.class_names
    rows = zip(names, report.confusion_matrix, strict=True)
    write_csv(
        file,
        [corner, *names],
        ({corner: name, **dict(zip(names, row, strict=True))} for name, row in rows),
    )


def _write_predictions(
    file: Path, class_names: Sequence[str], predictions: Predictions, costs: np.ndarray | None
) -> None:
    columns = ["path", "label", "predicted", "correct", "confidence"]
    if costs is not None:
        columns.append("least_cost")
    scored = class_names if len(class_names) <= MOST_PROBABILITY_COLUMNS else ()
    columns += [f"prob_{name}" for name in scored]
    cells = _prediction_cells(class_names, predictions, costs, probabilities=bool(scored))
    write_csv(file, columns, (dict(zip(columns, row, strict=True)) for row in cells))


def _prediction_cells(
    class_names: Sequence[str],
    predictions: Predictions,
    costs: np.ndarray | None,
    *,
    probabilities: bool,
) -> Iterator[tuple[Any, ...]]:
    """The cells of each picture's row."""
    names = np.array(class_names, dtype=object)
    by_picture: list[Any] = [
        predictions.keys,
        names[predictions.labels],
        names[predictions.predicted],
        predictions.correct.astype(int),
    ]
    decided = None if costs is None else names[least_cost_classes(predictions, costs)]
    count, classes = predictions.logits.shape
    for rows in blocks(count, _CELLS_PER_TEXT * classes):
        columns = [column[rows] for column in by_picture]
        columns.append(digits(predictions.confidences[rows]))
        if decided is not None:
            columns.append(decided[rows])
        if probabilities:
            columns += map(digits, predictions.softmax[rows].T)
        yield from zip(*columns, strict=True)


def digits(values: np.ndarray) -> list[str]:
    """Probabilities [N] as tables have them."""
    return [f"{value:.6g}" for value in values.tolist()]


@dataclass(frozen=True)
class Explanation:
    """The picture of what the model looked at, and the method that found it."""

    file: Path
    method: str


def write_explanations(
    folder: Path, method: str, overlays: Iterable[tuple[str, Image.Image]]
) -> None:
    """Write the pictures and their index; the names are those of the pictures explained."""
    (folder / EXPLANATIONS).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (key, overlay) in enumerate(overlays):
        name = f"{number:03d}.jpg"
        stream = io.BytesIO()
        overlay.save(stream, "JPEG", quality=90)
        write_bytes(folder / EXPLANATIONS / name, stream.getvalue())
        rows.append({"path": key, "file": name, "method": method})
    write_csv(folder / EXPLANATIONS / _INDEX, _INDEX_COLUMNS, rows)


def read_explanations(folder: Path) -> dict[str, Explanation]:
    """What explains each picture, by the picture's name; empty where nothing was explained."""
    index = folder / EXPLANATIONS / _INDEX
    if not index.is_file():
        return {}
    return {
        row["path"]: Explanation(index.with_name(Path(row["file"]).name), row["method"])
        for row in read_csv(index)
    }
