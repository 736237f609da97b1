"""ROC AUC and average precision of many resamples at once, exact, ties included."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from imgcls.metrics.predictions import Predictions

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


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
