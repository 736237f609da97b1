"""How much worse a model gets on pictures that are noisy, blurred, compressed or badly lit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgcls.config.evaluate import EvaluateConfig
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.engine.scoring.corruptions import CORRUPTIONS, SEVERITIES, predict_corrupted
from imgcls.errors import ConfigError
from imgcls.jobs.evaluate.scored import Extra, Scored
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.scores import class_counts, count_scores
from imgcls.models.card import preprocessing_from_card

_SCORED = ("accuracy", "balanced_accuracy")


def corruptions_if_asked(config: EvaluateConfig, checkpoints: Sequence[Checkpoint]) -> Extra | None:
    """The part of `--corruptions`. Raises ConfigError for several models, views, or channels."""
    if not config.corruptions:
        return None
    if len(checkpoints) > 1 or config.tta != "none":
        raise ConfigError("--corruptions: scores one model on single views; leave the others")
    channels = preprocessing_from_card(checkpoints[0].card).input_size[0]
    if channels not in (1, 3):  # what JPEG knows
        raise ConfigError(f"--corruptions: for pictures of 1 or 3 channels, not of {channels}")
    return corruptions


def corruptions(scored: Scored) -> dict[str, Any]:
    """Accuracy and balanced accuracy under each corruption.

    by_corruption: rows of kind, severities (the scores of each), mean, and drop from the clean
    pictures. mean, drop: over all kinds.
    """
    session, clean = scored.session, scored.predictions
    assert scored.scorer is not None
    batches = session.batches(scored.checkpoints[0], scored.pictures)
    predicted = predict_corrupted(scored.scorer, batches, session.counted(len(batches)))
    whole = _scores(clean, clean.predicted)
    rows: list[dict[str, Any]] = []
    for kind in CORRUPTIONS:
        severities = [_scores(clean, predicted[kind, severity]) for severity in SEVERITIES]
        mean = {name: float(np.mean([s[name] for s in severities])) for name in _SCORED}
        drop = {name: whole[name] - mean[name] for name in _SCORED}
        rows.append({"corruption": kind, "severities": severities, "mean": mean, "drop": drop})
    mean = {name: float(np.mean([row["mean"][name] for row in rows])) for name in _SCORED}
    return {
        "corruptions": {
            "clean": whole,
            "by_corruption": rows,
            "mean": mean,
            "drop": {name: whole[name] - mean[name] for name in _SCORED},
        }
    }


def _scores(clean: Predictions, predicted: np.ndarray) -> dict[str, float]:
    scores = count_scores(class_counts(clean.labels, predicted, clean.logits.shape[1]))
    return {name: float(scores[name]) for name in _SCORED}
