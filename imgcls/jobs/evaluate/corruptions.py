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
from imgcls.metrics.scores import class_counts
from imgcls.models.card import preprocessing_from_card
from imgcls.results.evaluation import CorruptionRow, Corruptions, CorruptionScores


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
    """Accuracy and balanced accuracy under each corruption, and how far they drop."""
    session, clean = scored.session, scored.predictions
    assert scored.scorer is not None
    batches = session.batches(scored.checkpoints, scored.pictures)
    predicted = predict_corrupted(scored.scorer, batches, session.counted(len(batches)))
    whole = _scores(clean, clean.predicted)
    rows: list[CorruptionRow] = []
    for kind in CORRUPTIONS:
        severities = [_scores(clean, predicted[kind, severity]) for severity in SEVERITIES]
        mean = _mean(severities)
        rows.append(CorruptionRow(kind, tuple(severities), mean, _drop(whole, mean)))
    mean = _mean([row.mean for row in rows])
    return {"corruptions": Corruptions(whole, tuple(rows), mean, _drop(whole, mean))}


def _scores(clean: Predictions, predicted: np.ndarray) -> CorruptionScores:
    counts = class_counts(clean.labels, predicted, clean.logits.shape[1])
    return CorruptionScores(float(counts.accuracy), float(counts.balanced_accuracy))


def _mean(scores: Sequence[CorruptionScores]) -> CorruptionScores:
    return CorruptionScores(
        float(np.mean([each.accuracy for each in scores])),
        float(np.mean([each.balanced_accuracy for each in scores])),
    )


def _drop(clean: CorruptionScores, worse: CorruptionScores) -> CorruptionScores:
    return CorruptionScores(
        clean.accuracy - worse.accuracy, clean.balanced_accuracy - worse.balanced_accuracy
    )
