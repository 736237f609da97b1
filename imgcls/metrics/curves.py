"""Areas under curves and the curves themselves, one class against the rest.

Exact, ties included: equal to scikit-learn's roc_auc_score and average_precision_score. Scores of
a class are sorted in place without keeping their order, and only the positives are looked up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgcls.metrics.blocks import blocks
from imgcls.metrics.predictions import require_names, require_scores


@dataclass(frozen=True)
class RankScores:
    """Areas for each class, float64 [C]; nan where a class lacks positives or negatives."""

    roc_auc: np.ndarray
    average_precision: np.ndarray

    @property
    def scored(self) -> np.ndarray:
        """Bool [C]: the classes with both a positive and a negative picture."""
        return np.asarray(np.isfinite(self.roc_auc))


def rank_scores(labels: np.ndarray, probabilities: np.ndarray) -> RankScores:
    """One-vs-rest areas of every class: labels int64 [N], probabilities [N, C]."""
    count, classes = probabilities.shape
    areas = np.full((classes, 2), np.nan)
    by_label = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[by_label], np.arange(classes + 1))
    for columns in blocks(classes, count):
        scores = np.array(probabilities[:, columns].T, order="C")
        members = [by_label[starts[c] : starts[c + 1]] for c in range(columns.start, columns.stop)]
        own = [np.sort(row[m]) for row, m in zip(scores, members, strict=True)]
        scores.sort(axis=1)
        for row, (ranked, positives) in enumerate(zip(scores, own, strict=True)):
            areas[columns.start + row] = _areas(
                positives,
                np.searchsorted(ranked, positives, side="left"),
                np.searchsorted(ranked, positives, side="right"),
                count,
            )
    return RankScores(areas[:, 0], areas[:, 1])


def micro_areas(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """(ROC AUC, average precision) of all N x C cells of the one-hot matrix taken together.

    nan, nan for a single class.
    """
    count, classes = probabilities.shape
    positives = np.sort(probabilities[np.arange(count), labels])
    below = np.zeros(count, dtype=np.int64)
    up_to = np.zeros(count, dtype=np.int64)
    for rows in blocks(count, classes):
        cells = probabilities[rows].flatten()
        cells.sort()
        below += np.searchsorted(cells, positives, side="left")
        up_to += np.searchsorted(cells, positives, side="right")
    return _areas(positives, below, up_to, count * classes)


def _areas(
    positives: np.ndarray, below: np.ndarray, up_to: np.ndarray, total: int
) -> tuple[float, float]:
    """(ROC AUC, average precision) from the rising scores [P] of the positives among `total`.

    below, up_to: int64 [P], how many of all the scores lie below, or not above, each of them.
    AUC counts the negatives below each positive, tied ones by half (Mann-Whitney); average
    precision is the mean, over positives, of the precision at the threshold of their score.
    """
    count = len(positives)
    negatives = total - count
    if not count or not negatives:
        return float("nan"), float("nan")
    own_below = np.searchsorted(positives, positives, side="left")
    own_up_to = np.searchsorted(positives, positives, side="right")
    halves = int(((below - own_below) + (up_to - own_up_to)).sum())
    precision = (count - own_below) / (total - below)
    return halves / (2 * count * negatives), float(precision.mean())


def compute_roc_auc(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float | None]:
    """{"micro", "macro"} one-vs-rest ROC AUC; macro over the classes that can be scored.

    labels: integers [N]; probabilities: [N, C]. None where no class has both a positive and a
    negative picture. Raises DataError for arrays that do not fit or are not finite.
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    require_scores(probabilities, labels)
    scores = rank_scores(labels, probabilities)
    micro, _ = micro_areas(labels, probabilities)
    macro = float(scores.roc_auc[scores.scored].mean()) if scores.scored.any() else None
    return {"micro": None if np.isnan(micro) else micro, "macro": macro}


@dataclass(frozen=True)
class PrCurve:
    """One class's precision and recall, float64 [T + 1], at rising thresholds [T].

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
    """One-vs-rest precision-recall curves of the classes that have positive pictures.

    labels: integers [N]; probabilities: [N, C]; class_names: [C]. Raises DataError for arrays that
    do not fit or are not finite.
    """
    from sklearn.metrics import precision_recall_curve

    labels, probabilities = np.asarray(labels), np.asarray(probabilities)
    require_scores(probabilities, labels)
    require_names(class_names, probabilities)
    curves = []
    for index, name in enumerate(class_names):
        positive = labels == index
        if not positive.any():
            continue
        precision, recall, thresholds = precision_recall_curve(positive, probabilities[:, index])
        area = float(-(np.diff(recall) * precision[:-1]).sum())
        curves.append(PrCurve(name, precision, recall, thresholds, area))
    return curves
