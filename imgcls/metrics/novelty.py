"""How far pictures lie from all that a model was trained on, and when that is too far."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from imgcls.errors import ConfigError, DataError
from imgcls.metrics.conformal import conformal_quantile
from imgcls.metrics.predictions import blocks

# a class left out costs a factorisation of [D, D]: tenths of a second
MOST_HELD_OUT = 50
# of features of length 1: rounding
_NO_SPREAD = 1e-20
_LEAST_SHRINKAGE = 1e-6


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """Where the training pictures lie among D features, scaled to length 1.

    means: float64 [C, D], of each class; nan for a class without pictures. whitening: float64
    [D, D]; the product with it makes the classes' shared covariance the identity.
    """

    means: np.ndarray
    whitening: np.ndarray

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Each picture's Mahalanobis distance from the nearest class mean: float64 [N].

        features: float32 [N, D], as the classifier is given them. Raises DataError for features
        that do not fit or are not finite.
        """
        features = np.asarray(features)
        _require_features(features, self.means.shape[1])
        found = np.empty(len(features))
        for rows in blocks(len(features), max(*self.means.shape, 1)):
            white = _unit_length(features[rows]) @ self.whitening
            squares = np.einsum("nd,nd->n", white, white)[:, None] + self._centre_squares
            squares -= 2 * (white @ self._centres.T)
            found[rows] = np.sqrt(np.maximum(squares.min(axis=1), 0.0))
        return found

    @cached_property
    def _centres(self) -> np.ndarray:
        """The whitened means of the classes that have one: float64 [K, D]."""
        return np.asarray(self.means[np.isfinite(self.means[:, 0])] @ self.whitening)

    @cached_property
    def _centre_squares(self) -> np.ndarray:
        return np.asarray(np.einsum("kd,kd->k", self._centres, self._centres))


@dataclass(frozen=True, eq=False)
class HeldOutDetection:
    """How often pictures of a class are flagged when the statistics do not know it; K classes.

    classes: int64 [K]. flagged: float64 [K], the share of its val pictures beyond the threshold.
    pictures: int64 [K], how many it has. A class is left out where the other classes have too few
    val pictures for a threshold.
    """

    rate: float
    classes: np.ndarray
    flagged: np.ndarray
    pictures: np.ndarray


def fit_statistics(features: np.ndarray, labels: np.ndarray, num_classes: int) -> FeatureStatistics:
    """Class means and the shared covariance of training pictures, for `FeatureStatistics`.

    features: float32 [N, D], pooled, as the classifier is given them; labels: int64 [N] in
    0..num_classes-1.

    Mueller and Hein, "Mahalanobis++: Improving OOD Detection via Feature Normalization"
    (arXiv:2505.18032), after Lee et al. (arXiv:1807.03888); the covariance is shrunk as scikit-
    learn's `LedoitWolf` does it (Ledoit and Wolf, 2004), so that it holds for fewer pictures than
    features, too. Goes over blocks of rows, so that features may be a mapped file: [C, D] and a few
    [D, D] of float64 are in memory.

    Raises DataError for arrays that do not fit, features that are not finite, and pictures that
    do not differ within any class.
    """
    features, labels = np.asarray(features), np.asarray(labels)
    _require_labels(features, labels, num_classes)
    _require_features(features, features.shape[1])
    means, spread = _means_and_spread(features, labels, num_classes)
    return FeatureStatistics(means, spread.whitening())


def novelty_threshold(
    val_distances: np.ndarray, rate: float, units: np.ndarray | None = None
) -> float:
    """Pictures farther than this are flagged, of those like the val pictures at most `rate`.

    val_distances: float64 [N] of pictures that the statistics do not know. units: int64 [N], the
    group of each, or None. The conformal quantile, so `rate` holds on average over the draws of val
    pictures, whatever the distances; inf for fewer pictures (or groups) than
    `conformal.fewest_units(1 - rate)`, 19 at 0.05. Raises ConfigError for a rate outside 0..1.
    """
    if not 0 < rate < 1:
        raise ConfigError(f"a rate of false alarms of {rate} is not between 0 and 1; 0.05 is usual")
    return conformal_quantile(np.asarray(val_distances), 1 - rate, units)


def held_out_class_detection(
    features_train: np.ndarray,
    labels_train: np.ndarray,
    features_val: np.ndarray,
    labels_val: np.ndarray,
    rate: float,
    *,
    units: np.ndarray | None = None,
    most: int = MOST_HELD_OUT,
) -> HeldOutDetection:
    """For each class: how many of its val pictures are flagged by statistics without that class.

    Arrays as in `fit_statistics`; units: int64 [N], the group of each val picture, or None. Of more
    than `most` classes that have training and val pictures, as many are drawn with a fixed seed.
    The threshold is that of the other classes' val pictures. The features are of a model that was
    trained with the class, which may tell it apart better, or worse, than one that never saw it.
    """
    labels_train, labels_val = np.asarray(labels_train), np.asarray(labels_val)
    num_classes = int(max(labels_train.max(), labels_val.max())) + 1
    _require_labels(features_train, labels_train, num_classes)
    _require_labels(features_val, labels_val, num_classes)
    _require_features(features_train, features_val.shape[1])
    means, spread = _means_and_spread(features_train, labels_train, num_classes)
    trained = np.isfinite(means[:, 0])
    candidates = np.intersect1d(labels_train, labels_val) if trained.sum() > 1 else ()
    found: list[tuple[int, float, int]] = []
    for label in _drawn(np.asarray(candidates), most):
        without = means.copy()
        without[label] = np.nan
        own = labels_train == label
        part = _spread_about(means, features_train[own], labels_train[own])
        others = FeatureStatistics(without, spread.less(part).whitening())
        distances = others.distances(features_val)
        known = (labels_val != label) & trained[labels_val]
        threshold = novelty_threshold(
            distances[known], rate, None if units is None else np.asarray(units)[known]
        )
        if np.isfinite(threshold):
            unknown = distances[labels_val == label] > threshold
            found.append((int(label), float(unknown.mean()), len(unknown)))
    classes, flagged, pictures = zip(*found, strict=True) if found else ((), (), ())
    return HeldOutDetection(
        rate,
        np.array(classes, dtype=np.int64),
        np.array(flagged, dtype=np.float64),
        np.array(pictures, dtype=np.int64),
    )


@dataclass(frozen=True, eq=False)
class _Spread:
    """Sums over pictures of what is left of their features x when the class mean is taken off.

    squares: of x x^T, float64 [D, D]. quartics: of |x|^4.
    """

    count: int
    squares: np.ndarray
    quartics: float

    def less(self, part: _Spread) -> _Spread:
        """Without some of the pictures."""
        return _Spread(
            self.count - part.count, self.squares - part.squares, self.quartics - part.quartics
        )

    def whitening(self) -> np.ndarray:
        """W with W W^T the inverse of the covariance, shrunk by Ledoit and Wolf's formula."""
        from scipy.linalg import solve_triangular

        size = len(self.squares)
        covariance = self.squares / max(self.count, 1)
        scale = float(np.trace(covariance)) / size
        if not scale > _NO_SPREAD:
            raise DataError(
                "the training pictures' features do not differ within any class: two different "
                "pictures of a class are needed at least"
            )
        squared = float(np.einsum("ij,ij->", covariance, covariance))
        noise = (self.quartics / self.count - squared) / (size * self.count)
        signal = squared / size - scale**2
        # never quite 0, where pictures are too few to fill all directions
        share = min(max(noise / signal, _LEAST_SHRINKAGE), 1.0) if signal > 0 else 1.0
        covariance *= 1 - share
        covariance.flat[:: size + 1] += share * scale
        lower = np.linalg.cholesky(covariance)
        return np.asarray(solve_triangular(lower, np.eye(size), lower=True).T)


def _means_and_spread(
    features: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, _Spread]:
    """(class means float64 [C, D], nan for a class without pictures; the spread about them)."""
    sums = np.zeros((num_classes, features.shape[1]))
    for rows in blocks(*features.shape):
        order = np.argsort(labels[rows], kind="stable")
        present, starts = np.unique(labels[rows][order], return_index=True)
        sums[present] += np.add.reduceat(_unit_length(features[rows])[order], starts, axis=0)
    counts = np.bincount(labels, minlength=num_classes)[:, None]
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    return means, _spread_about(means, features, labels)


def _spread_about(means: np.ndarray, features: np.ndarray, labels: np.ndarray) -> _Spread:
    squares, quartics = np.zeros((features.shape[1], features.shape[1])), 0.0
    for rows in blocks(*features.shape):
        rest = _unit_length(features[rows]) - means[labels[rows]]
        squares += rest.T @ rest
        quartics += float((np.einsum("nd,nd->n", rest, rest) ** 2).sum())
    return _Spread(len(labels), squares, quartics)


def _unit_length(features: np.ndarray) -> np.ndarray:
    """Each row over its Euclidean length: float64; a row of zeros stays."""
    features = features.astype(np.float64)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(np.divide(features, lengths, out=features, where=lengths > 0))


def _drawn(classes: np.ndarray, most: int) -> np.ndarray:
    if len(classes) <= most:
        return classes
    return np.sort(np.random.default_rng(0).choice(classes, most, replace=False))


def _require_features(features: np.ndarray, size: int) -> None:
    if features.ndim != 2 or features.shape[1] != size:  # noqa: PLR2004
        raise DataError(f"features of shape {features.shape} do not fit {size} for each picture")
    for rows in blocks(*features.shape):
        if not np.isfinite(features[rows]).all():
            raise DataError("features are not finite; the weights or a picture are damaged")


def _require_labels(features: np.ndarray, labels: np.ndarray, num_classes: int) -> None:
    if features.ndim != 2 or len(features) != len(labels) or not len(labels):  # noqa: PLR2004
        raise DataError(
            f"features of shape {features.shape} and labels of {len(labels)} pictures do not fit"
        )
    if not 0 <= labels.min() <= labels.max() < num_classes:
        raise DataError(f"labels up to {labels.max()} do not fit {num_classes} classes")
