"""The classifier alone, fitted by scikit-learn's logistic regression on features."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from imgcls.config.imbalance import IMBALANCE_METHODS
from imgcls.metrics.resampling import Units, unit_numbers

# inverse regularisation C for features of variance 1, weakest last
GRID = tuple(10.0 ** (exponent / 2) for exponent in range(-8, 3))
# scikit-learn's own, where nothing can be held out
_DEFAULT_C = 1.0
_MOST_FOLDS = 4
_MOST_ITERATIONS = 500
_TOLERANCE = 1e-3
# the bias of a class without pictures, which is never predicted
NEVER = -1e4


@dataclass(frozen=True, eq=False)
class FittedHead:
    """Weights float32 [C, D], biases float32 [C], and how the regularisation was chosen.

    c: scikit-learn's C, for features scaled to a mean variance of 1. nll: the mean loss of held-out
    pictures at that C, in `folds` folds; nan, in none, where no class has two pictures or groups.
    reason: why C is to be doubted, or None.
    """

    weight: np.ndarray
    bias: np.ndarray
    c: float
    nll: float
    folds: int
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What cross-validation says of logistic regression on features, at the best C.

    nll: the weighted mean loss of held-out pictures; nan, in no folds, where no class has two
    pictures or groups. logits: float64 [N, C] of each picture by the fit that it was left out of;
    rows of nan for pictures whose whole class was left out.
    """

    c: float
    nll: float
    folds: int
    logits: np.ndarray


def fit_logistic(
    views: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    imbalance: str,
    seed: int,
    groups: Units | None = None,
) -> FittedHead:
    """Logistic regression on features, its C chosen by cross-validated loss.

    views: float32 [R, N, D], R views of N pictures; a picture's views stay in one fold and are
    validated in view 0. labels: int64 [N]. imbalance: a method of `--imbalance`: those that weigh
    pictures weigh them here, and those that adjust logits shift the biases after the fit (Menon et
    al. 2021, section 4.1). groups [N]: pictures that are left out together.
    """
    counts = np.bincount(labels, minlength=num_classes)
    method = IMBALANCE_METHODS[imbalance]
    weights, shift = method.class_weights(counts), method.prior_shift(counts)
    picture_weights = np.ones(len(labels)) if weights is None else weights[labels]
    features = _Standard.of(views)
    inputs = features.apply(views)
    # its many small products are slower on two threads than on one, and ten times so on a busy CPU
    with threadpool_limits(1):
        found = _cross_validate(
            inputs, labels, picture_weights, num_classes, seed=seed, groups=groups
        )
        last = _Fit(num_classes, len(views))
        last.fit(inputs, labels, picture_weights, found.c)
    weight, bias = features.undo(last.coefficients, last.intercepts)
    bias = bias if shift is None else bias - shift
    reason = doubt(found.c, found.nll, np.bincount(labels, picture_weights))
    return FittedHead(
        weight.astype(np.float32), bias.astype(np.float32), found.c, found.nll, found.folds, reason
    )


def cross_validate_logistic(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    seed: int,
    groups: Units | None = None,
) -> HeldOut:
    """What logistic regression says of pictures that it was not fitted to, C as `fit_logistic` has.

    features: float32 [N, D]; labels: int64 [N], which count alike. seed, groups: the same ones deal
    the same folds, whatever the features are.
    """
    views = features[None]
    inputs = _Standard.of(views).apply(views)
    with threadpool_limits(1):
        return _cross_validate(
            inputs, labels, np.ones(len(labels)), num_classes, seed=seed, groups=groups
        )


def _cross_validate(
    inputs: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    num_classes: int,
    *,
    seed: int,
    groups: Units | None,
) -> HeldOut:
    """The C with the least loss of held-out pictures, and their logits at it. inputs: [R, N, D]."""
    units = np.arange(len(labels)) if groups is None else unit_numbers(groups)
    # a group of several classes is spread by one of them
    strata = labels[np.unique(units, return_index=True)[1]]
    folds = int(np.clip(np.unique(strata, return_counts=True)[1].min(), 2, _MOST_FOLDS))
    fold = deal(strata, folds, seed)[units]
    inner = [_Fit(num_classes, len(inputs)) for _ in range(folds)]
    best = HeldOut(_DEFAULT_C, math.nan, 0, np.full((len(labels), num_classes), np.nan))
    for candidate in GRID:
        logits = _held_out_logits(inner, inputs, labels, weights, fold=fold, c=candidate)
        nll = _mean_loss(logits, labels, weights)
        if math.isnan(nll):
            break  # no class is in two pictures or groups, so that none can be held out
        if nll > best.nll * 1.01:
            break  # past the valley: with less regularisation it only gets worse, and slower
        if not nll >= best.nll:  # the first is better than nan
            best = HeldOut(candidate, nll, folds, logits)
    return best


def doubt(c: float, nll: float, class_weight: np.ndarray) -> str | None:
    """What to know of a C out of the grid whose held-out loss is nll, or None."""
    shares = class_weight[class_weight > 0] / class_weight.sum()
    if nll >= -(shares * np.log(shares)).sum():
        return "held-out pictures are told no better than by how common the classes are"
    if c in (GRID[0], GRID[-1]):
        return f"C is the {'smallest' if c == GRID[0] else 'largest'} that is tried"
    return None


@dataclass(frozen=True, eq=False)
class _Standard:
    """Features centred, turned into the space they span, and scaled to a mean variance of 1.

    A ridge penalty does not see the turn, and fewer pictures than features leave fewer dimensions.
    """

    mean: np.ndarray
    basis: np.ndarray | None
    scale: float

    @classmethod
    def of(cls, views: np.ndarray) -> _Standard:
        flat = views.reshape(-1, views.shape[-1]).astype(np.float64)
        mean = flat.mean(axis=0)
        centred = flat - mean
        scale = float(np.sqrt(np.mean(centred**2))) or 1.0
        basis = None
        if len(flat) < flat.shape[1]:
            _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
            basis = directions[sizes > sizes[0] * 1e-7].T
        return cls(mean, basis, scale)

    def apply(self, views: np.ndarray) -> np.ndarray:
        centred = (views - self.mean) / self.scale
        turned = centred if self.basis is None else centred @ self.basis
        # twice as fast as in float64, and the loss is as low to four digits
        return np.asarray(turned, dtype=np.float32)

    def undo(
        self, coefficients: np.ndarray, intercepts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        weight = coefficients if self.basis is None else coefficients @ self.basis.T
        weight = weight / self.scale
        return weight, intercepts - weight @ self.mean


def deal(labels: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """A fold for each label, each class spread as evenly as it can be: int64 [N]."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), dtype=np.int64)
    fold[by_class] = np.arange(len(labels)) % folds
    return fold


def _held_out_logits(
    inner: Sequence[_Fit],
    inputs: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    *,
    fold: np.ndarray,
    c: float,
) -> np.ndarray:
    """Logits [N, C] of pictures by the fit to the folds they are not in; see HeldOut."""
    logits = np.full((len(labels), inner[0].num_classes), np.nan)
    for number, model in enumerate(inner):
        train = fold != number
        held_out = ~train & np.isin(labels, labels[train])
        if not held_out.any():
            continue
        model.fit(inputs[:, train], labels[train], weights[train], c)
        logits[held_out] = inputs[0, held_out] @ model.coefficients.T + model.intercepts
    return logits


def _mean_loss(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """The weighted mean loss of the pictures that have logits; nan where none has."""
    has = ~np.isnan(logits[:, 0])
    if not has.any():
        return math.nan
    losses = log_losses(logits[has], labels[has])
    return float(losses @ weights[has] / weights[has].sum())


def log_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The loss of each picture: minus the logarithm of its class's probability, float64 [N]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]
    return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - own)


class _Fit:
    """A logistic regression over all C classes, refitted from where it was at another penalty.

    coefficients: [C, D]; intercepts: [C]. A class without pictures is never predicted.
    """

    def __init__(self, num_classes: int, views: int) -> None:
        from sklearn.linear_model import LogisticRegression

        self.num_classes = num_classes
        self._views = views
        self._model = LogisticRegression(max_iter=_MOST_ITERATIONS, tol=_TOLERANCE, warm_start=True)

    def fit(self, inputs: np.ndarray, labels: np.ndarray, weights: np.ndarray, c: float) -> None:
        """Fit to inputs [R, N, D]."""
        from sklearn.exceptions import ConvergenceWarning

        width = inputs.shape[-1]
        present = np.unique(labels)
        self.coefficients = np.zeros((self.num_classes, width))
        self.intercepts = np.full(self.num_classes, NEVER)
        if len(present) == 1:
            self.intercepts[present] = 0.0
            return
        # views repeat pictures; they must not count as more evidence against the penalty
        model = self._model.set_params(C=c / self._views)
        with warnings.catch_warnings():
            # the last digits of a fit that is one of many do not matter
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(
                inputs.reshape(-1, width),
                np.tile(labels, self._views),
                np.tile(weights, self._views),
            )
        slopes, heights = model.coef_, model.intercept_
        if len(present) == 2:  # noqa: PLR2004  scikit-learn then gives one difference of logits
            slopes = np.concatenate([-slopes, slopes]) / 2
            heights = np.concatenate([-heights, heights]) / 2
        self.coefficients[present] = slopes
        self.intercepts[present] = heights
