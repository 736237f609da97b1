"""Which pictures a bootstrap resample holds, and what the metrics come to on many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from imgcls.errors import ConfigError, DataError
from imgcls.metrics.blocks import blocks
from imgcls.metrics.predictions import PictureFacts
from imgcls.metrics.resampled_ranks import RankTally
from imgcls.metrics.scores import ClassCounts, cohen_kappa, count_scores, matthews_correlation

Units = Sequence[object] | np.ndarray


class Resampler:
    """Draws pictures anew within each class, or whole groups; the same seed draws the same.

    labels: int64 [N]. groups [N] (patient, site): whole groups are drawn, within those of the same
    most frequent class. strata [N] (fold): every resample keeps their sizes, too.

    Raises ConfigError for samples < 1, DataError for groups that do not fit or when there are fewer
    than two pictures or groups to draw from.
    """

    def __init__(
        self,
        labels: np.ndarray,
        samples: int,
        seed: int,
        groups: Units | None = None,
        strata: np.ndarray | None = None,
    ) -> None:
        if samples < 1:
            raise ConfigError(f"{samples} bootstrap samples are too few; 1000 are usual")
        self._samples = samples
        self._seed = seed
        cells = labels
        if strata is not None:
            pairs = np.stack([strata, labels])
            cells = np.unique(pairs, axis=1, return_inverse=True)[1].reshape(-1)
        self._units, self._strata = draw_units(cells, groups)

    def weights(self) -> Iterator[np.ndarray]:
        """Blocks of resamples: float64 [R, N], how often each resample holds each picture."""
        rng = np.random.default_rng(self._seed)
        for rows in blocks(self._samples, len(self._units)):
            yield draw(rng, self._strata, rows.stop - rows.start)[:, self._units]


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


def draw_units(cells: np.ndarray, groups: Units | None) -> tuple[np.ndarray, np.ndarray]:
    """(the unit of each picture [N], the stratum of each unit [U]); a unit is drawn as one.

    cells: int64 [N], what every resample keeps the number of: the class, or fold and class.
    """
    if groups is None:
        units, strata, word = np.arange(len(cells)), cells, "picture"
    else:
        if len(groups) != len(cells):
            raise DataError(f"{len(groups)} groups do not fit {len(cells)} pictures")
        _, units = np.unique(np.asarray(groups), return_inverse=True)
        strata, word = _most_frequent(units, cells), "group"
    if len(strata) < 2:  # noqa: PLR2004
        raise DataError(f"one {word} alone tells nothing about spread: no interval can be given")
    return units, strata


def _most_frequent(units: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The cell that most pictures of each unit have, the lowest of a tie: int64 [U]."""
    pairs, counts = np.unique(np.stack([units, cells]), axis=1, return_counts=True)
    # by unit, then falling count, then rising cell: the first row of each unit is its answer
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    _, first = np.unique(pairs[0][order], return_index=True)
    return np.asarray(pairs[1][order][first])


def draw(rng: np.random.Generator, strata: np.ndarray, samples: int) -> np.ndarray:
    """How often each unit is drawn, with replacement within its stratum: float64 [samples, U]."""
    count = len(strata)
    order = np.argsort(strata, kind="stable")
    _, starts, places, sizes = np.unique(
        strata[order], return_index=True, return_inverse=True, return_counts=True
    )
    offsets = (rng.random((samples, count)) * sizes[places]).astype(np.int64)
    drawn = order[starts[places] + offsets] + np.arange(samples)[:, None] * count
    times = np.bincount(drawn.ravel(), minlength=samples * count)
    return times.reshape(samples, count).astype(np.float64)
