"""Areas under curves and the curves themselves, one class against the rest.

Exact, ties included: equal to scikit-learn's roc_auc_score and average_precision_score. An area
needs only how many scores lie below, or not above, each positive's own. These are counted over
blocks of rows, so that a file of scores is read from front to back and never lies in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from imgcls.metrics.given import ArrayLike, as_array
from imgcls.metrics.predictions import (
    RowScores,
    blocks,
    numbered,
    require_classes,
    require_names,
    require_scores,
)

# below it, the calls for each class and block cost more than the sorting
_FEWEST_ROWS = 2048


@dataclass(frozen=True)
class RankScores:
    """Areas for each class, float64 [C]; nan where a class lacks positives or negatives.

    *_micro: of all N x C cells of the one-hot matrix taken together; nan for a single class.
    """

    roc_auc: np.ndarray
    average_precision: np.ndarray
    roc_auc_micro: float
    average_precision_micro: float

    @property
    def scored(self) -> np.ndarray:
        """Bool [C]: the classes with both a positive and a negative picture."""
        return np.asarray(np.isfinite(self.roc_auc))

    @property
    def roc_auc_macro(self) -> float:
        """The mean over the scored classes; nan where there are none."""
        return self._mean(self.roc_auc)

    @property
    def average_precision_macro(self) -> float:
        """The mean over the scored classes; nan where there are none."""
        return self._mean(self.average_precision)

    def _mean(self, by_class: np.ndarray) -> float:
        scored = by_class[self.scored]
        return float(scored.mean()) if len(scored) else float("nan")


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


def compute_roc_auc(
    targets: ArrayLike, probs: ArrayLike, num_classes: int | None = None
) -> dict[str, float | None]:
    """{"micro", "macro"} one-vs-rest ROC AUC; macro over the classes that can be scored.

    targets: class numbers [N]; probs: [N, C], or other scores; arrays, lists or torch tensors.
    num_classes: C, where it is to be checked. None where no class has both a positive and a
    negative picture. Raises DataError for arrays that do not fit or are not finite.
    """
    labels, scores = _checked(targets, probs, num_classes)
    ranks = rank_scores(labels, scores, scores[np.arange(len(labels)), labels])
    areas = {"micro": ranks.roc_auc_micro, "macro": ranks.roc_auc_macro}
    return {name: None if np.isnan(area) else area for name, area in areas.items()}


def _checked(
    targets: ArrayLike, probs: ArrayLike, num_classes: int | None
) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = as_array(targets), as_array(probs)
    require_scores(scores, labels)
    if num_classes is not None:
        require_classes(num_classes, scores)
    return labels.astype(np.int64, copy=False), scores


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


@overload
def compute_pr_curves(
    targets: ArrayLike, probs: ArrayLike, class_names: Sequence[str], /
) -> list[PrCurve]: ...


@overload
def compute_pr_curves(
    targets: ArrayLike,
    probs: ArrayLike,
    num_classes: int | None = None,
    class_names: Sequence[str] | None = None,
) -> list[PrCurve]: ...


def compute_pr_curves(
    targets: ArrayLike,
    probs: ArrayLike,
    num_classes: int | Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> list[PrCurve]:
    """One-vs-rest precision-recall curves of the classes that have positive pictures.

    targets: class numbers [N]; probs: [N, C]; arrays, lists or torch tensors. num_classes: C, where
    it is to be checked; class_names: [C], which may also stand in its place; numbers without.
    Raises DataError for arrays that do not fit or are not finite.
    """
    from sklearn.metrics import precision_recall_curve

    if num_classes is not None and not isinstance(num_classes, (int, np.integer)):
        num_classes, class_names = None, num_classes
    labels, probabilities = _checked(targets, probs, num_classes)
    if class_names is None:
        class_names = numbered(probabilities.shape[1])
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
