"""Areas under curves and the curves themselves, one class against the rest.

Exact, from one sort a class: equal to scikit-learn's roc_auc_score and average_precision_score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RankScores:
    """Areas for each class, float64 [C]; nan where a class lacks positives or negatives."""

    roc_auc: np.ndarray
    average_precision: np.ndarray

    @property
    def scored(self) -> np.ndarray:
        """Bool [C]: the classes with both a positive and a negative picture."""
        return np.asarray(np.isfinite(self.roc_auc))


def binary_areas(positive: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """(ROC AUC, average precision) of scores [N] for bool positive [N]; nan, nan if one-sided.

    Average precision is sum over thresholds of (R_n - R_{n-1}) P_n, as in scikit-learn, ties
    sharing one threshold.
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return float("nan"), float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    hits = np.cumsum(positive[order])[last_of_tie].astype(np.float64)
    alarms = last_of_tie + 1 - hits
    new_hits = np.diff(hits, prepend=0.0)
    new_alarms = np.diff(alarms, prepend=0.0)
    # trapezoids: every new alarm lies above all earlier hits and half of those it is tied with
    auc = float((new_alarms * (hits - new_hits / 2)).sum() / (positives * negatives))
    average_precision = float((new_hits * hits / (last_of_tie + 1)).sum() / positives)
    return auc, average_precision


def rank_scores(labels: np.ndarray, probabilities: np.ndarray) -> RankScores:
    """One-vs-rest areas of every class: labels int64 [N], probabilities float32 [N, C]."""
    areas = np.array(
        [binary_areas(labels == c, probabilities[:, c]) for c in range(probabilities.shape[1])]
    )
    return RankScores(areas[:, 0], areas[:, 1])


def micro_areas(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """(ROC AUC, average precision) of all N x C cells of the one-hot matrix taken together."""
    one_hot = np.zeros(probabilities.shape, dtype=bool)
    one_hot[np.arange(len(labels)), labels] = True
    return binary_areas(one_hot.ravel(), probabilities.ravel())


def compute_roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    """{"micro", "macro"} one-vs-rest ROC AUC; macro over the classes that can be scored.

    None where no class has both a positive and a negative picture.
    """
    scores = rank_scores(labels, probabilities)
    micro, _ = micro_areas(labels, probabilities)
    macro = float(scores.roc_auc[scores.scored].mean()) if scores.scored.any() else None
    return {"micro": None if np.isnan(micro) else micro, "macro": macro}


@dataclass(frozen=True)
class PrCurve:
    """One class's precision and recall, float64 [T + 1], at falling thresholds float32 [T].

    As scikit-learn's precision_recall_curve: recall falls to 0 and precision ends with 1.
    """

    class_name: str
    precision: np.ndarray
    recall: np.ndarray
    thresholds: np.ndarray
    average_precision: float


def compute_pr_curves(
    labels: np.ndarray, probabilities: np.ndarray, class_names: Sequence[str]
) -> list[PrCurve]:
    """One-vs-rest precision-recall curves of the classes that have positive pictures."""
    from sklearn.metrics import precision_recall_curve

    curves = []
    for index, name in enumerate(class_names):
        positive = labels == index
        if not positive.any():
            continue
        precision, recall, thresholds = precision_recall_curve(positive, probabilities[:, index])
        area = float(-(np.diff(recall) * precision[:-1]).sum())
        curves.append(PrCurve(name, precision, recall, thresholds, area))
    return curves
