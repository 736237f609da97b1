"""The points of ROC and precision-recall curves, of one class and averaged over classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CurvePoints:
    """Rates when all scores >= a threshold count as positive: float64 [T], thresholds falling.

    false_positive_rate and recall as in scikit-learn's roc_curve without its first point, recall
    and precision as in its precision_recall_curve, read backwards, without its last one. Of the
    points of one recall only the first and the last, where the curves turn; of recall 0 the last.
    """

    false_positive_rate: np.ndarray
    recall: np.ndarray
    precision: np.ndarray


def curve_points(positive: np.ndarray, scores: np.ndarray) -> CurvePoints:
    """The corners of the curves: positive bool [N], scores [N]; twice the positives at most.

    At least one of both kinds must be there.
    """
    own, counts = np.unique(scores[positive], return_counts=True)
    own, counts = own[::-1], counts[::-1]
    hits = counts.cumsum()
    ranked = np.sort(scores)
    # taken just above each of the positives' scores, and with it; in the end all
    above = len(scores) - np.searchsorted(ranked, own, side="right")
    reached = len(scores) - np.searchsorted(ranked, own, side="left")
    taken = np.append(np.stack([above, reached], axis=1), len(scores))
    true_positives = np.append(np.stack([hits - counts, hits], axis=1), hits[-1])
    moved = np.diff(taken, prepend=0) > 0
    taken, true_positives = taken[moved], true_positives[moved]
    return CurvePoints(
        false_positive_rate=(taken - true_positives) / (len(scores) - hits[-1]),
        recall=true_positives / hits[-1],
        precision=true_positives / taken,
    )


def recall_at(points: CurvePoints, false_positive_rates: np.ndarray) -> np.ndarray:
    """The height of the ROC curve, straight between its points, at these places."""
    x = np.concatenate([[0.0], points.false_positive_rate])
    y = np.concatenate([[0.0], points.recall])
    return np.asarray(np.interp(false_positive_rates, x, y))


def precision_at(points: CurvePoints, recalls: np.ndarray) -> np.ndarray:
    """The precision at the highest threshold that reaches each recall, as average precision has."""
    return points.precision[np.searchsorted(points.recall, recalls, side="left")]


def mean_curves(curves: Sequence[CurvePoints], grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(recall at these false positive rates, precision at these recalls), means over curves."""
    return (
        np.mean([recall_at(curve, grid) for curve in curves], axis=0),
        np.mean([precision_at(curve, grid) for curve in curves], axis=0),
    )
