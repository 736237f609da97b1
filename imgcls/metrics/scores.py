"""Scores from counts: accuracy, precision, recall, F1, kappa, MCC, top-k.

All but top-k need three counts a class (hits, support, predicted), never the C x C matrix, so
they stay light with many classes and work on thousands of bootstrap resamples at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from imgcls.metrics.predictions import Predictions

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

    @property
    def precision(self) -> np.ndarray:
        """float64 [..., C]; 0 where nothing was predicted."""
        return _ratio(self.hits, self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """float64 [..., C]; 0 where there is no true picture."""
        return _ratio(self.hits, self.support)

    @property
    def f1(self) -> np.ndarray:
        """float64 [..., C]; 0 where the class is in neither truth nor prediction."""
        return _ratio(2 * self.hits, self.support + self.predicted)


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


def count_scores(counts: ClassCounts) -> dict[str, np.ndarray]:
    """accuracy, balanced_accuracy, and precision, recall, f1 (macro, weighted): float64 [...].

    balanced_accuracy is the mean recall of the classes with true pictures. Precision, recall and
    F1 are scikit-learn's defaults: macro over the classes seen in truth or prediction, weighted by
    support, `zero_division=0`.
    """
    support = counts.support
    total = support.sum(axis=-1)
    seen = (support > 0) | (counts.predicted > 0)
    scores = {
        "accuracy": counts.hits.sum(axis=-1) / total,
        "balanced_accuracy": _mean_where(counts.recall, support > 0),
    }
    for name in ("precision", "recall", "f1"):
        by_class = getattr(counts, name)
        scores[f"{name}_macro"] = _mean_where(by_class, seen)
        scores[f"{name}_weighted"] = (by_class * support).sum(axis=-1) / total
    return scores


def cohen_kappa(counts: ClassCounts) -> np.ndarray:
    """Agreement beyond chance (Cohen, 1960): float64 [...].

    nan when truth and prediction are one same class.
    """
    total = counts.support.sum(axis=-1)
    by_chance = (counts.support * counts.predicted).sum(axis=-1)
    possible = _beyond(by_chance, total)
    agreement = total * counts.hits.sum(axis=-1) - by_chance
    return _ratio(agreement, possible, otherwise=np.nan)


def matthews_correlation(counts: ClassCounts) -> np.ndarray:
    """Matthews correlation of C classes (Gorodkin, 2004): float64 [...].

    0 when all truths or all predictions are one class, as in scikit-learn.
    """
    total = counts.support.sum(axis=-1)
    covariance = total * counts.hits.sum(axis=-1) - (counts.support * counts.predicted).sum(axis=-1)
    truth_spread = _beyond((counts.support**2).sum(axis=-1), total)
    predicted_spread = _beyond((counts.predicted**2).sum(axis=-1), total)
    # two roots, because the product of the spreads leaves the integers that a float64 holds
    return _ratio(covariance, np.sqrt(truth_spread) * np.sqrt(predicted_spread))


def top_k_accuracy(predictions: Predictions, k: int) -> float:
    """Share of pictures whose class is among the k highest scores (ties: `label_ranks`).

    k must be below the number of classes.
    """
    return float((predictions.label_ranks < k).mean())


def validation_metrics(predictions: Predictions) -> dict[str, float | None]:
    """The `val_` columns of `history.csv`; a top-k with k >= classes is None.

    `_se`: standard errors, float. Those of a class's recall and of accuracy count one more picture
    right and one more wrong (Laplace), so that a class of one picture does not look certain.
    """
    num_classes = predictions.logits.shape[1]
    counts = class_counts(predictions.labels, predictions.predicted, num_classes)
    scores = count_scores(counts)
    seen = counts.support > 0
    recall_variances = _share_variance(counts.hits[seen], counts.support[seen])
    accuracy_variance = _share_variance(counts.hits.sum(), counts.support.sum())
    metrics: dict[str, float | None] = {
        "val_loss": float(predictions.picture_losses.mean()),
        "val_accuracy": float(scores["accuracy"]),
        "val_accuracy_se": float(np.sqrt(accuracy_variance)),
        "val_balanced_accuracy": float(scores["balanced_accuracy"]),
        "val_balanced_accuracy_se": float(np.sqrt(recall_variances.sum()) / seen.sum()),
        "val_precision_macro": float(scores["precision_macro"]),
        "val_recall_macro": float(scores["recall_macro"]),
        "val_macro_f1": float(scores["f1_macro"]),
        "val_precision_weighted": float(scores["precision_weighted"]),
        "val_recall_weighted": float(scores["recall_weighted"]),
        "val_f1_weighted": float(scores["f1_weighted"]),
    }
    for k in (3, 5):
        metrics[f"val_top_{k}_accuracy"] = (
            top_k_accuracy(predictions, k) if k < num_classes else None
        )
    return metrics


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
