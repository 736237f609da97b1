"""The metrics of many resamples of the pictures at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgcls.metrics.predictions import PictureOutcomes, Predictions
from imgcls.metrics.registry import Metric
from imgcls.metrics.scores import ClassCounts

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class Tally:
    """Metrics of many resamples at once, each given by how often it holds each picture.

    metrics: those that resamples cannot have are passed over. ranks: gives ROC AUC and average
    precision, too.
    """

    def __init__(
        self, outcomes: PictureOutcomes, metrics: Sequence[Metric], ranks: RankTally | None = None
    ) -> None:
        # classes that nobody saw or said count nowhere: memory for the pictures', not for all
        met, numbers = np.unique(
            np.stack([outcomes.labels, outcomes.predicted]), return_inverse=True
        )
        labels, predicted = numbers.reshape(2, -1)
        self._num_classes = len(met)
        self._correct = outcomes.correct
        self._by_label = _Sums(labels)
        self._by_predicted = _Sums(predicted)
        self._of_counts = {m.name: m.from_counts for m in metrics if m.from_counts}
        self._of_pictures = {m.name: m.from_pictures(outcomes) for m in metrics if m.from_pictures}
        self._ranks = ranks

    def metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """weights: float64 [R, N], times that each resample holds each picture. Gives [R] each."""
        counts = ClassCounts(
            hits=self._by_label(weights * self._correct, self._num_classes),
            support=self._by_label(weights, self._num_classes),
            predicted=self._by_predicted(weights, self._num_classes),
        )
        total = weights.sum(axis=1)
        return {
            **{name: score(counts) for name, score in self._of_counts.items()},
            **{name: weights @ values / total for name, values in self._of_pictures.items()},
            **({} if self._ranks is None else self._ranks.metrics(weights)),
        }


class _Sums:
    """Sums of weights [R, N] by the class of each of the N pictures."""

    def __init__(self, classes: np.ndarray) -> None:
        self._order = np.argsort(classes, kind="stable")
        self._present, self._starts = np.unique(classes[self._order], return_index=True)

    def __call__(self, weights: np.ndarray, num_classes: int) -> np.ndarray:
        sums = np.zeros((len(weights), num_classes))
        sums[:, self._present] = np.add.reduceat(weights[:, self._order], self._starts, axis=1)
        return sums


class RankTally:
    """Areas, micro and macro, of resamples given by how often they hold each picture.

    Takes about N x C x R multiplications for R resamples and holds N x C numbers in memory.
    """

    def __init__(self, predictions: Predictions) -> None:
        labels, probabilities = predictions.labels, predictions.probabilities
        count, classes = probabilities.shape
        pictures = np.arange(count)
        held = np.bincount(labels, minlength=classes)
        self._by_class = [
            _Segments(probabilities[:, c], labels == c, pictures, count)
            for c in np.flatnonzero((held > 0) & (held < count))
        ]
        one_hot = labels[:, None] == np.arange(classes)
        self._micro = _Segments(
            probabilities.ravel(), one_hot.ravel(), np.repeat(pictures, classes), count
        )

    def metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """weights: float64 [R, N]. Gives [R] each; a resample without a class leaves it out."""
        columns = np.ascontiguousarray(weights.T)
        by_class = [segments.areas(columns) for segments in self._by_class]
        areas = np.array(by_class).reshape(-1, 2, len(weights))
        scored = np.isfinite(areas).sum(axis=0)
        macro = _divided(np.nansum(areas, axis=0), scored, scored > 0)
        micro = self._micro.areas(columns)
        return {
            "roc_auc_macro": macro[0],
            "average_precision_macro": macro[1],
            "roc_auc_micro": micro[0],
            "average_precision_micro": micro[1],
        }


class _Segments:
    """Scores cut at the distinct scores of the positives: a resample is then a few weights.

    Segment 2k + 1 holds the scores equal to the k-th distinct one, 2k those between it and the
    one before, all of them negative.
    """

    def __init__(
        self, scores: np.ndarray, positive: np.ndarray, pictures: np.ndarray, count: int
    ) -> None:
        cuts = np.unique(scores[positive])
        below = np.searchsorted(cuts, scores, side="left")
        tied = np.searchsorted(cuts, scores, side="right") > below
        segments, other = 2 * below + tied, ~positive
        self._negative = _sums(segments[other], pictures[other], (2 * len(cuts) + 1, count))
        self._positive = _sums(below[positive], pictures[positive], (len(cuts), count))

    def areas(self, columns: np.ndarray) -> np.ndarray:
        """(ROC AUC, average precision) of each resample: float64 [2, R]; columns: [N, R]."""
        negatives, hits = self._negative @ columns, self._positive @ columns
        everything = negatives.copy()
        everything[1::2] += hits
        at_most = negatives.cumsum(axis=0)
        positive_sum, negative_sum = hits.sum(axis=0), at_most[-1]
        pairs = (hits * (at_most[1::2] - negatives[1::2] / 2)).sum(axis=0)
        # at the threshold of each cut: what is above or equal, and how much of it is positive
        from_top = everything[::-1].cumsum(axis=0)[::-1][1::2]
        hits_from_top = hits[::-1].cumsum(axis=0)[::-1]
        precision = np.divide(hits_from_top, from_top, out=np.zeros_like(hits), where=from_top > 0)
        possible = (positive_sum > 0) & (negative_sum > 0)
        return np.stack(
            [
                _divided(pairs, positive_sum * negative_sum, possible),
                _divided((hits * precision).sum(axis=0), positive_sum, possible),
            ]
        )


def _sums(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    from scipy.sparse import csr_matrix

    return csr_matrix((np.ones(len(rows)), (rows, columns)), shape=shape)


def _divided(part: np.ndarray, whole: np.ndarray, possible: np.ndarray) -> np.ndarray:
    quotient: np.ndarray = np.divide(part, whole, out=np.full_like(part, np.nan), where=possible)
    return quotient
