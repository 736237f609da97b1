"""Scores from counts: accuracy, precision, recall, F1, kappa, MCC.

They need three counts a class (hits, support, predicted), never the C x C matrix, so they stay
light with many classes and work on thousands of bootstrap resamples at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

# weights that are no whole numbers are summed with errors of this size
_ROUNDING = 1e-12


@dataclass(frozen=True)
class ClassCounts:
    """Counts of each class, float64 [..., C]; leading axes (e.g. resamples) are independent.

    hits: predicted and true. support: true. predicted: predicted.
    """

    hits: np.ndarray
    support: np.ndarray
    predicted: np.ndarray

    @cached_property
    def precision(self) -> np.ndarray:
        """float64 [..., C]; 0 where nothing was predicted."""
        return _ratio(self.hits, self.predicted)

    @cached_property
    def recall(self) -> np.ndarray:
        """float64 [..., C]; 0 where there is no true picture."""
        return _ratio(self.hits, self.support)

    @cached_property
    def f1(self) -> np.ndarray:
        """float64 [..., C]; 0 where the class is in neither truth nor prediction."""
        return _ratio(2 * self.hits, self.support + self.predicted)

    @cached_property
    def total(self) -> np.ndarray:
        """Pictures: float64 [...]."""
        return np.asarray(self.support.sum(axis=-1))

    def macro(self, by_class: np.ndarray) -> np.ndarray:
        """The mean over the classes seen in truth or prediction, as in scikit-learn: [...]."""
        return _mean_where(by_class, (self.support > 0) | (self.predicted > 0))

    def weighted(self, by_class: np.ndarray) -> np.ndarray:
        """The mean weighted by support: [...]."""
        return np.asarray((by_class * self.support).sum(axis=-1) / self.total)

    @property
    def accuracy(self) -> np.ndarray:
        """The share of pictures whose class was predicted: float64 [...]."""
        return np.asarray(self.hits.sum(axis=-1) / self.total)

    @property
    def balanced_accuracy(self) -> np.ndarray:
        """The mean recall of the classes with true pictures: float64 [...]."""
        return _mean_where(self.recall, self.support > 0)

    @property
    def cohen_kappa(self) -> np.ndarray:
        """Agreement beyond chance (Cohen, 1960): float64 [...].

        nan when truth and prediction are one same class.
        """
        by_chance = (self.support * self.predicted).sum(axis=-1)
        agreement = self.total * self.hits.sum(axis=-1) - by_chance
        return _ratio(agreement, _beyond(by_chance, self.total), otherwise=np.nan)

    @property
    def matthews_correlation(self) -> np.ndarray:
        """Matthews correlation of C classes (Gorodkin, 2004): float64 [...].

        0 when all truths or all predictions are one class, as in scikit-learn.
        """
        by_chance = (self.support * self.predicted).sum(axis=-1)
        covariance = self.total * self.hits.sum(axis=-1) - by_chance
        truth_spread = _beyond((self.support**2).sum(axis=-1), self.total)
        predicted_spread = _beyond((self.predicted**2).sum(axis=-1), self.total)
        # two roots, because the product of the spreads leaves the integers that a float64 holds
        return _ratio(covariance, np.sqrt(truth_spread) * np.sqrt(predicted_spread))

    @property
    def accuracy_error(self) -> float:
        """The standard error of the accuracy, one more picture right and one wrong (Laplace)."""
        return float(np.sqrt(_share_variance(self.hits.sum(), self.support.sum())))

    @property
    def balanced_accuracy_error(self) -> float:
        """The standard error of balanced_accuracy.

        Each class counts one more picture right and one more wrong (Laplace), so that a class of
        one picture does not look certain.
        """
        seen = self.support > 0
        variances = _share_variance(self.hits[seen], self.support[seen])
        return float(np.sqrt(variances.sum()) / seen.sum())


def class_counts(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> ClassCounts:
    """Counts from labels and predicted classes, int64 [N]."""
    counted = (labels[labels == predicted], labels, predicted)
    return ClassCounts(*(np.bincount(c, minlength=num_classes).astype(np.float64) for c in counted))


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> csr_array:
    """Pictures by true class (row) and predicted class (column): int64 [C, C], sparse.

    Takes memory for the pairs that occur, not for C x C.
    """
    from scipy.sparse import coo_array

    ones = np.ones(len(labels), dtype=np.int64)
    return coo_array((ones, (labels, predicted)), shape=(num_classes, num_classes)).tocsr()


def confused_pairs(confusion: csr_array, most: int) -> list[tuple[int, int, int]]:
    """(true class, predicted class, pictures) of the commonest `most` mistakes, commonest first.

    confusion: pictures [C, C], rows true. Of equal counts the lower classes come first.
    """
    cells = confusion.tocoo()
    (true, predicted), counts = cells.coords, cells.data
    wrong = np.flatnonzero(true != predicted)
    order = wrong[np.lexsort((predicted[wrong], true[wrong], -counts[wrong]))[:most]]
    columns = (true, predicted, counts)
    return list(zip(*(column[order].tolist() for column in columns), strict=True))


def _share_variance(hits: np.ndarray, count: np.ndarray) -> np.ndarray:
    share = (hits + 1) / (count + 2)
    return np.asarray(share * (1 - share) / count)


def _beyond(part: np.ndarray, total: np.ndarray) -> np.ndarray:
    """total**2 - part, and exactly 0 where only the rounding of weights is left."""
    rest = total**2 - part
    return np.asarray(np.where(rest <= total**2 * _ROUNDING, 0, rest))


def _ratio(part: np.ndarray, whole: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    fallback = np.full(np.shape(part), otherwise)
    quotient: np.ndarray = np.divide(part, whole, out=fallback, where=whole > 0)
    return quotient


def _mean_where(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    mean: np.ndarray = (values * chosen).sum(axis=-1) / chosen.sum(axis=-1)
    return mean
