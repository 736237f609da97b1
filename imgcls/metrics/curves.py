"""Areas under curves and the curves themselves, one class against the rest.

Exact, ties included: equal to scikit-learn's roc_auc_score and average_precision_score. An area
needs only how many scores lie below, or not above, each positive's own. These are counted over
blocks of rows, so that a file of scores is read from front to back and never lies in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgcls.metrics.blocks import blocks
from imgcls.metrics.predictions import RowScores, require_names, require_scores

# below it, the calls for each class and block cost more than the sorting
_FEWEST_ROWS = 2048


@dataclass(frozen=True)
class RankScores:
    """Areas for each class, float64 [C]; nan where a class lacks positives or negatives.

    micro_*: of all N x C cells of the one-hot matrix taken together; nan for a single class.
    """

    roc_auc: np.ndarray
    average_precision: np.ndarray
    micro_roc_auc: float
    micro_average_precision: float

    @property
    def scored(self) -> np.ndarray:
        """Bool [C]: the classes with both a positive and a negative picture."""
        return np.asarray(np.isfinite(self.roc_auc))


def rank_scores(labels: np.ndarray, scores: RowScores, own: np.ndarray) -> RankScores:
    """One-vs-rest areas of every class, and micro, in one pass over the scores [N, C].

    labels: int64 [N]; own: the score of each picture's own class [N].
    """
    count, classes = scores.shape
    by_class = np.lexsort((own, labels))
    starts = np.searchsorted(labels[by_class], np.arange(classes + 1))
    positives = own[by_class]
    flat = np.sort(own)
    below, up_to, flat_below, flat_up_to = np.zeros((4, count), dtype=np.int64)
    present = np.flatnonzero(np.diff(starts))
    for rows in blocks(count, classes, fewest=_FEWEST_ROWS):
        ranked = np.array(scores[rows].T, order="C")
        ranked.sort(axis=1)
        for c in present:
            mine = slice(starts[c], starts[c + 1])
            below[mine] += np.searchsorted(ranked[c], positives[mine], side="left")
            up_to[mine] += np.searchsorted(ranked[c], positives[mine], side="right")
        cells = ranked.ravel()
        cells.sort()
        flat_below += np.searchsorted(cells, flat, side="left")
        flat_up_to += np.searchsorted(cells, flat, side="right")
    areas = np.full((classes, 2), np.nan)
    for c in present:
        mine = slice(starts[c], starts[c + 1])
        areas[c] = _areas(positives[mine], below[mine], up_to[mine], count)
    micro = _areas(flat, flat_below, flat_up_to, count * classes)
    return RankScores(areas[:, 0], areas[:, 1], *micro)


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
    ranks = rank_scores(labels, probabilities, probabilities[np.arange(len(labels)), labels])
    macro = float(ranks.roc_auc[ranks.scored].mean()) if ranks.scored.any() else None
    micro = ranks.micro_roc_auc
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
