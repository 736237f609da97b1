"""Bootstrap resamples of the pictures, or of whole groups of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from imgcls.errors import ConfigError, DataError
from imgcls.metrics.predictions import blocks

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
