"""Bootstrap resamples of the pictures, and the metrics of many resamples at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from imgcls.errors import ConfigError, DataError
from imgcls.metrics.predictions import PictureFacts, Predictions, blocks
from imgcls.metrics.scores import ClassCounts, cohen_kappa, count_scores, matthews_correlation

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Units = Sequence[object] | np.ndarray


class Resampler:
    """Draws pictures anew within each class, or whole groups; the same seed draws the same.

    labels: int64 [N]. groups [N] (patient, site): whole groups are drawn, within those of the same
    most frequent class; a picture whose group is "" or None is one of its own. folds: int64 [N],
    where the model of each fold scored its own pictures.

    Of n pictures of a class n - 1 are drawn, and count n / (n - 1) times: a mean's variance over
    the resamples is then the unbiased estimate, where n drawn ones give (n - 1) / n of it. Rao and
    Wu, "Resampling Inference With Complex Survey Data" (1988). A class of one shows no spread.

    Raises ConfigError for samples < 1, DataError for groups that do not fit or when there are fewer
    than two pictures or groups to draw from.
    """

    def __init__(
        self,
        labels: np.ndarray,
        samples: int,
        seed: int,
        groups: Units | None = None,
        folds: np.ndarray | None = None,
    ) -> None:
        if samples < 1:
            raise ConfigError(f"{samples} bootstrap samples are too few; 1000 are usual")
        self._samples = samples
        self._seed = seed
        self._labels = labels
        self._folds = folds
        self._units, self._strata = draw_units(labels, groups)

    @property
    def folds(self) -> int:
        """How many models scored the pictures, each its own part; 1 where nothing else is said."""
        return 1 if self._folds is None else len(np.unique(self._folds))

    def weights(self) -> Iterator[np.ndarray]:
        """Blocks of resamples: float64 [R, N], how often each resample holds each picture."""
        rng = np.random.default_rng(self._seed)
        for rows in blocks(self._samples, len(self._units)):
            yield draw(rng, self._strata, rows.stop - rows.start)[:, self._units]

    def whole(self) -> np.ndarray:
        """Every picture once, as one resample: float64 [1, N]."""
        return np.ones((1, len(self._labels)))

    def fold_left_out(self) -> np.ndarray:
        """One resample for each of K folds, of all pictures but the fold's: float64 [K, N].

        The others count more, so that each class keeps its weight; a class that is in one fold only
        stays as it is.
        """
        assert self._folds is not None
        kept = self._folds != np.unique(self._folds)[:, None]
        weights = np.ones(kept.shape)
        for label in np.unique(self._labels):
            own = self._labels == label
            left = kept[:, own].sum(axis=1, keepdims=True)
            share = np.divide(own.sum(), left, out=np.zeros(left.shape), where=left > 0)
            weights[:, own] = np.where(left > 0, kept[:, own] * share, 1.0)
        return weights


class Tally:
    """Metrics of many resamples at once, each given by how often it holds each picture.

    ranks: gives ROC AUC and average precision, too.
    """

    def __init__(
        self, facts: PictureFacts, top_k: Sequence[int] = (), ranks: RankTally | None = None
    ) -> None:
        # classes that nobody saw or said count nowhere: memory for the pictures', not for all
        met, numbers = np.unique(np.stack([facts.labels, facts.predicted]), return_inverse=True)
        labels, predicted = numbers.reshape(2, -1)
        self._num_classes = len(met)
        self._correct = facts.correct
        self._by_label = _Sums(labels)
        self._by_predicted = _Sums(predicted)
        self._of_pictures = {f"top_{k}_accuracy": facts.label_ranks < k for k in top_k}
        self._of_pictures["nll"] = facts.picture_losses
        self._of_pictures["brier"] = facts.brier_scores
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
            **count_scores(counts),
            "cohen_kappa": cohen_kappa(counts),
            "mcc": matthews_correlation(counts),
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


def draw_units(labels: np.ndarray, groups: Units | None) -> tuple[np.ndarray, np.ndarray]:
    """(the unit of each picture [N], the stratum of each unit [U]); a unit is drawn as one.

    labels: int64 [N]; every resample keeps the number of each class, or of its groups.
    """
    if groups is None:
        units, strata, word = np.arange(len(labels)), labels, "picture"
    else:
        if len(groups) != len(labels):
            raise DataError(f"{len(groups)} groups do not fit {len(labels)} pictures")
        units = unit_numbers(groups)
        strata, word = _most_frequent(units, labels), "group"
    if len(strata) < 2:  # noqa: PLR2004
        raise DataError(f"one {word} alone tells nothing about spread: no interval can be given")
    return units, strata


def unit_numbers(groups: Units) -> np.ndarray:
    """The same number for pictures of the same group; a blank is no group: int64 [N]."""
    own = np.array([group is None or group == "" for group in groups])
    _, units = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    units[own] = units.max() + 1 + np.arange(own.sum())
    return np.unique(units, return_inverse=True)[1]


def deal_folds(units: np.ndarray, folds: int) -> np.ndarray:
    """A fold for each picture, pictures of one unit together, the same in every call: int64 [N].

    Fewer than `folds` where there are fewer units.
    """
    count = int(units.max()) + 1
    dealt = np.random.default_rng(0).permutation(count) % min(folds, count)
    return np.asarray(dealt[units])


def _most_frequent(units: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class that most pictures of each unit have, the lowest of a tie: int64 [U]."""
    pairs, counts = np.unique(np.stack([units, labels]), axis=1, return_counts=True)
    # by unit, then falling count, then rising class: the first row of each unit is its answer
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    _, first = np.unique(pairs[0][order], return_index=True)
    return np.asarray(pairs[1][order][first])


def draw(rng: np.random.Generator, strata: np.ndarray, samples: int) -> np.ndarray:
    """How much each unit counts in a resample: float64 [samples, U].

    Of the n units of a stratum n - 1 are drawn, with replacement, each for n / (n - 1); one alone
    is always there.
    """
    count = len(strata)
    order = np.argsort(strata, kind="stable")
    _, starts, places, sizes = np.unique(
        strata[order], return_index=True, return_inverse=True, return_counts=True
    )
    # the last unit of each stratum draws nothing, unless it is the only one
    draws = np.arange(count) < (starts + np.maximum(sizes - 1, 1))[places]
    offsets = (rng.random((samples, int(draws.sum()))) * sizes[places[draws]]).astype(np.int64)
    drawn = order[starts[places[draws]] + offsets] + np.arange(samples)[:, None] * count
    times = np.bincount(drawn.ravel(), minlength=samples * count).reshape(samples, count)
    counts_for = np.empty(count)
    counts_for[order] = (sizes / np.maximum(sizes - 1, 1))[places]
    return times * counts_for


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
