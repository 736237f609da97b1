"""How much worse a model gets on pictures that are noisy, blurred, compressed or badly lit."""

from __future__ import annotations

from typing import Any

import numpy as np

from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.scoring.corruptions import CORRUPTIONS, SEVERITIES, predict_corrupted
from imgcls.errors import ConfigError
from imgcls.jobs.evaluate.pictures import Pictures
from imgcls.jobs.evaluate.report import Scoring
from imgcls.jobs.evaluate.score import OnBatch, counted, prepare
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.scores import class_counts, count_scores
from imgcls.models.card import preprocessing_from_card

_SCORED = ("accuracy", "balanced_accuracy")


def require_corruptible(checkpoint: Checkpoint) -> None:
    """Raise ConfigError for a model whose pictures JPEG does not know."""
    channels = preprocessing_from_card(checkpoint.card).input_size[0]
    if channels not in (1, 3):
        raise ConfigError(f"--corruptions: for pictures of 1 or 3 channels, not of {channels}")


def corruption_scores(
    checkpoint: Checkpoint,
    pictures: Pictures,
    clean: Predictions,
    compute: ComputeSettings,
    *,
    scoring: Scoring,
    on_batch: OnBatch,
) -> dict[str, Any]:
    """Accuracy and balanced accuracy under each corruption.

    by_corruption: rows of kind, severities (the scores of each), mean, and drop from the clean
    pictures. mean, drop: over all kinds.
    """
    prepared = prepare(checkpoint, pictures, compute, scoring)
    predicted = predict_corrupted(
        prepared.model,
        prepared.batches,
        prepared.normalizer,
        compute,
        counted(on_batch, len(prepared.batches)),
    )
    whole = _scores(clean, clean.predicted)
    rows: list[dict[str, Any]] = []
    for kind in CORRUPTIONS:
        severities = [_scores(clean, predicted[kind, severity]) for severity in SEVERITIES]
        mean = {name: float(np.mean([s[name] for s in severities])) for name in _SCORED}
        drop = {name: whole[name] - mean[name] for name in _SCORED}
        rows.append({"corruption": kind, "severities": severities, "mean": mean, "drop": drop})
    mean = {name: float(np.mean([row["mean"][name] for row in rows])) for name in _SCORED}
    return {
        "clean": whole,
        "by_corruption": rows,
        "mean": mean,
        "drop": {name: whole[name] - mean[name] for name in _SCORED},
    }


def _scores(clean: Predictions, predicted: np.ndarray) -> dict[str, float]:
    scores = count_scores(class_counts(clean.labels, predicted, clean.logits.shape[1]))
    return {name: float(scores[name]) for name in _SCORED}
