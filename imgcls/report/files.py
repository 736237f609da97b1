"""Results as files: CSV for tables, strict JSON for documents, all replaced atomically."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls.engine.durable import strict_json, write_text
from imgcls.metrics.predictions import Predictions
from imgcls.results import EvalReport, to_plain

SPLIT_COLUMNS = ("path", "label", "group", "split", "fold")
HISTORY_COLUMNS = (
    "epoch",
    "train_loss",
    "val_loss",
    "val_accuracy",
    "val_balanced_accuracy",
    "val_precision_macro",
    "val_recall_macro",
    "val_macro_f1",
    "val_precision_weighted",
    "val_recall_weighted",
    "val_f1_weighted",
    "val_top_3_accuracy",
    "val_top_5_accuracy",
    "lr",
    "epoch_time",
)


def write_csv(file: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV (RFC 4180 quoting, UTF-8); None becomes an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(file, text.getvalue())


def read_csv(file: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, all cells as text. Raises OSError when it cannot be read."""
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def write_json(file: Path, document: Any) -> None:
    """Write strict JSON; nan and inf become null."""
    write_text(file, strict_json(to_plain(document), indent=2) + "\n")


def write_history(file: Path, rows: Iterable[Mapping[str, float | None]]) -> None:
    """Write `history.csv`, one row an epoch."""
    write_csv(file, HISTORY_COLUMNS, rows)


def write_evaluation(folder: Path, report: EvalReport, predictions: Predictions) -> None:
    """Write the files of one evaluated split.

    folder/
      test_metrics.json  predictions.csv  per_class.csv  confusion_matrix.csv
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_predictions(folder / "predictions.csv", report.class_names, predictions)
    write_csv(folder / "per_class.csv", list(report.per_class[0]), report.per_class)
    write_csv(
        folder / "confusion_matrix.csv",
        ["true \\ predicted", *report.class_names],
        (
            {"true \\ predicted": name, **dict(zip(report.class_names, row, strict=True))}
            for name, row in zip(report.class_names, report.confusion_matrix, strict=True)
        ),
    )
    write_json(
        folder / "test_metrics.json",
        {
            "checkpoint": report.checkpoint,
            "model_name": report.model_name,
            "split": report.split,
            "fold": report.fold,
            "metrics": report.metrics,
            "undefined": report.undefined,
            "speed_metrics": report.speed_metrics,
            "notes": list(report.notes),
        },
    )


def _write_predictions(file: Path, class_names: Sequence[str], predictions: Predictions) -> None:
    probabilities = predictions.probabilities
    predicted = predictions.predicted
    columns = ["path", "label", "predicted", "correct", "confidence"]
    columns += [f"prob_{name}" for name in class_names]
    rows = (
        {
            "path": key,
            "label": class_names[label],
            "predicted": class_names[choice],
            "correct": int(label == choice),
            "confidence": f"{scores[choice]:.6g}",
            **{f"prob_{n}": f"{p:.6g}" for n, p in zip(class_names, scores, strict=True)},
        }
        for key, label, choice, scores in zip(
            predictions.keys, predictions.labels, predicted, probabilities, strict=True
        )
    )
    write_csv(file, columns, rows)
