"""Another checkpoint on the same pictures: differences, their intervals, and who changed sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.config.reading import ReadingConfig
from imgcls.engine.checkpoint.folder import Checkpoint, read_checkpoint
from imgcls.engine.checkpoint.temperature import read_temperature
from imgcls.engine.device.batches import ComputeSettings
from imgcls.errors import ConfigError
from imgcls.jobs.evaluate.pictures import Pictures
from imgcls.jobs.evaluate.report import Scoring
from imgcls.jobs.evaluate.score import OnBatch, prepare
from imgcls.jobs.plan.tables import table_for
from imgcls.metrics.comparison import mcnemar, paired_differences
from imgcls.metrics.predictions import PictureFacts, Predictions
from imgcls.metrics.scores import class_counts
from imgcls.storage.pointers import find_checkpoint
from imgcls.storage.scores import temporary_scores


def read_other(path: Path, fold: int | None, class_names: tuple[str, ...]) -> Checkpoint:
    """The checkpoint to compare with. Raises ConfigError when it knows other classes."""
    other = read_checkpoint(find_checkpoint(path, fold))
    differing = set(other.class_names) ^ set(class_names)
    if differing:
        raise ConfigError(
            f"--compare {path}: the two models know different classes ({', '.join(differing)} "
            "only in one), so their numbers cannot be compared"
        )
    return other


def compare(
    predictions: Predictions,
    other: Checkpoint,
    pictures: Pictures,
    class_names: tuple[str, ...],
    compute: ComputeSettings,
    *,
    folder: Path,
    scoring: Scoring,
    reading: ReadingConfig,
    calibrated: bool,
    on_batch: OnBatch,
) -> dict[str, Any]:
    """What `comparison` of a report holds; every difference is this model's minus the other's.

    metrics: this, other, difference and paired bootstrap interval. mcnemar: pictures that only one
    has right, and the exact p-value. per_class: recall of both, the greatest change first.
    changed: the pictures that one has right and the other wrong. The other's scores lie below the
    folder meanwhile. The pictures are decoded and prepared as the other model's own; reading: what
    was asked of them now.
    """
    theirs = replace(pictures, table=table_for(other, pictures.table, reading))
    found = read_temperature(other) if calibrated else None
    temperature = 1.0 if found is None else found.temperature
    with temporary_scores(folder, len(theirs.indices)) as file:
        prepared = prepare(other, theirs, compute, scoring)
        facts = prepared.predict(file, on_batch, temperature).facts
    # the other model may have the classes in another order
    number = {name: index for index, name in enumerate(class_names)}
    ours = np.array([number[name] for name in other.class_names])
    against = replace(facts, labels=ours[facts.labels], predicted=ours[facts.predicted])
    resampler = scoring.resampler(predictions, pictures.groups)
    return {
        "checkpoint": other.folder,
        "model_name": str(other.facts.get("model_name", other.card["architecture"])),
        "metrics": paired_differences(predictions.facts, [against], resampler),
        "mcnemar": mcnemar(predictions.facts, against),
        "per_class": _per_class(predictions.facts, against, class_names),
        "changed": [
            {
                "path": predictions.keys[row],
                "label": class_names[predictions.labels[row]],
                "this": class_names[predictions.predicted[row]],
                "other": class_names[against.predicted[row]],
                "now_right": bool(predictions.correct[row]),
            }
            for row in (predictions.correct != against.correct).nonzero()[0]
        ],
    }


def _per_class(
    this: PictureFacts, other: PictureFacts, class_names: tuple[str, ...]
) -> list[dict[str, Any]]:
    counts = [class_counts(p.labels, p.predicted, len(class_names)) for p in (this, other)]
    rows = [
        {
            "class": name,
            "support": int(support),
            "this": float(ours),
            "other": float(theirs),
            "difference": float(ours - theirs),
        }
        for name, support, ours, theirs in zip(
            class_names, counts[0].support, counts[0].recall, counts[1].recall, strict=True
        )
        if support
    ]
    return sorted(rows, key=lambda row: -abs(row["difference"]))
