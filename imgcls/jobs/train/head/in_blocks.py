"""Logistic regression on many features: by torch on the device, a block of pictures at a time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from imgcls.config.imbalance import IMBALANCE_METHODS
from imgcls.data.loading.features import FeatureSet
from imgcls.engine.device.runtime import exact_float32
from imgcls.jobs.train.head.logistic import NEVER, FittedHead, deal, doubt
from imgcls.metrics.resampling import Units, unit_numbers

# inverse regularisation, weakest last: each value costs many passes, and the valley is wide
_GRID = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
# of so many pictures one part tells what each value is worth
_PARTS = 10
# gradients for each value, and for the last fit to all pictures
_MOST_PASSES = 20
MOST_PASSES = (len(_GRID) + 1) * _MOST_PASSES
# past the valley of held-out losses there is nothing to find
_RISE = 1.01
# numbers in a block of features, or of logits
_BLOCK = 2**22
Told = Callable[[int, int], None]


def fit_in_blocks(
    features: FeatureSet,
    rows: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    *,
    imbalance: str,
    seed: int,
    device: torch.device,
    groups: Units | None = None,
    on_pass: Told = lambda _done, _most: None,
) -> FittedHead:
    """Logistic regression as `fit_logistic` has it, in bounded memory and so many passes at most.

    rows, labels int64 [N], groups [N]: those of the pictures. C is chosen by a held-out tenth, and
    each is fitted by scipy's L-BFGS from where the one before ended, in exact float32 on the device
    but for the sums. Beyond the features themselves it takes a block of them and some twenty times
    the classifier's weights. on_pass is told (passes over the features, passes at most).
    """
    counts = np.bincount(labels, minlength=num_classes)
    method = IMBALANCE_METHODS[imbalance]
    class_weights, shift = method.class_weights(counts), method.prior_shift(counts)
    weights = np.ones(len(labels)) if class_weights is None else class_weights[labels]
    units = np.arange(len(labels)) if groups is None else unit_numbers(groups)
    strata = labels[np.unique(units, return_index=True)[1]]
    held_out = (deal(strata, _PARTS, seed) == 0)[units]
    known = held_out & np.isin(labels, labels[~held_out])
    tried = _GRID if known.any() else ()
    fit = _Fit(features, rows, labels, weights, num_classes, device=device)
    told = _Passes(on_pass, (len(tried) + 1) * _MOST_PASSES)
    with exact_float32(device):
        c, nll, best = 1.0, math.nan, fit.solution
        for candidate in tried:
            fit.run(~held_out, candidate, told)
            loss = fit.loss(known)
            if loss > nll * _RISE:
                break
            if not loss >= nll:  # the first is better than nan
                c, nll, best = candidate, loss, fit.solution
        fit.solution = best
        fit.run(np.ones(len(labels), dtype=bool), c, told)
    weight, bias = fit.classifier()
    bias[counts == 0] = NEVER
    if shift is not None:
        bias = bias - shift
    reason = doubt(c, nll, np.bincount(labels, weights), _GRID) if tried else None
    return FittedHead(
        weight.astype(np.float32), bias.astype(np.float32), c, nll, int(bool(tried)), reason
    )


class _EnoughError(Exception):
    """A fit has made as many passes as it may."""


def _sum(values: torch.Tensor) -> float:
    """The sum in float64, which not every device has."""
    return float(values.cpu().double().sum())


class _Passes:
    """Counts passes over the features, and tells of them."""

    def __init__(self, tell: Told, most: int) -> None:
        self._tell = tell
        self._done = 0
        self._most = most

    def one_more(self) -> None:
        self._done += 1
        self._tell(self._done, self._most)


class _Fit:
    """A logistic regression that is fitted to some of the pictures, from where it was before.

    solution: float64 [C x (D + 1)], a class's weights and bias one behind the other, for features
    with a mean of 0 and a mean variance of 1, as `fit_logistic` has them.
    """

    def __init__(
        self,
        features: FeatureSet,
        rows: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        num_classes: int,
        *,
        device: torch.device,
    ) -> None:
        self._features = features
        self._views, self._width = len(features.values), features.values.shape[-1]
        self._rows, self._labels, self._weights = rows, labels, weights
        self._num_classes = num_classes
        self._device = device
        self._size = max(_BLOCK // max(self._width, num_classes), 1)
        self._mean, self._scale = self._measure()
        self.solution = np.zeros(num_classes * (self._width + 1))
        self._absent = np.zeros(num_classes, dtype=bool)

    def run(self, which: np.ndarray, c: float, passes: _Passes) -> None:
        """Fit to the pictures of a mask, at an inverse regularisation C."""
        from scipy.optimize import minimize

        positions = np.flatnonzero(which)
        # views repeat pictures; together they count as one
        weight = float(self._weights[positions].sum())
        counts = np.bincount(self._labels[positions], minlength=self._num_classes)
        self._absent = counts == 0
        # of two classes scikit-learn penalises their difference alone, which is twice as large
        penalty = (2 if np.count_nonzero(counts) == 2 else 1) / (c * weight)  # noqa: PLR2004
        best = math.inf, self.solution
        made = 0

        def objective(solution: np.ndarray) -> tuple[float, np.ndarray]:
            nonlocal best, made
            if made == _MOST_PASSES:
                raise _EnoughError
            made += 1
            value, gradient = self._sums(solution, positions)
            passes.one_more()
            table = solution.reshape(self._num_classes, -1)
            slopes = gradient / (weight * self._views)
            slopes[:, :-1] += penalty * table[:, :-1]
            value = value / (weight * self._views)
            value += penalty / 2 * float((table[:, :-1] ** 2).sum())
            if value < best[0]:
                best = value, solution.copy()
            return value, slopes.ravel()

        # it bounds its steps, but not the passes that a step takes
        with contextlib.suppress(_EnoughError):
            minimize(objective, self.solution, jac=True, method="L-BFGS-B", options={"gtol": 1e-6})
        self.solution = best[1]

    def loss(self, which: np.ndarray) -> float:
        """The weighted mean loss of the pictures of a mask, in view 0."""
        weight, bias = self._placed(self.solution)
        positions, total = np.flatnonzero(which), 0.0
        with torch.inference_mode():
            for inputs, labels, weights in self._blocks(positions, views=1):
                losses = cross_entropy(inputs @ weight.T + bias, labels, reduction="none")
                total += _sum(losses * weights)
        return total / float(self._weights[positions].sum())

    def classifier(self) -> tuple[np.ndarray, np.ndarray]:
        """(weights [C, D], biases [C]), for the features as they are."""
        table = self.solution.reshape(self._num_classes, -1)
        weight = table[:, :-1] / self._scale
        return weight, table[:, -1] - weight @ self._mean

    def _sums(self, solution: np.ndarray, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """The sums over pictures and views of the loss, and of its gradient [C, D + 1]."""
        weight, bias = self._placed(solution)
        value = 0.0
        slopes = torch.zeros_like(weight)
        heights = torch.zeros(self._num_classes, dtype=torch.float64)
        with torch.inference_mode():
            for inputs, labels, weights in self._blocks(positions, self._views):
                log_shares = torch.log_softmax(inputs @ weight.T + bias, dim=1)
                own = log_shares.gather(1, labels[:, None]).squeeze(1)
                value -= _sum(own * weights)
                # of the loss by the logits: the shares, less one for the picture's own class
                by_logits = log_shares.exp_()
                by_logits[torch.arange(len(labels), device=self._device), labels] -= 1
                by_logits *= weights[:, None]
                slopes += by_logits.T @ inputs
                heights += by_logits.sum(dim=0).cpu().double()
        return value, torch.cat([slopes.cpu().double(), heights[:, None]], dim=1).numpy()

    def _placed(self, solution: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        table = torch.from_numpy(solution.reshape(self._num_classes, -1)).float()
        bias = table[:, -1].masked_fill(torch.from_numpy(self._absent), NEVER)
        return table[:, :-1].contiguous().to(self._device), bias.to(self._device)

    def _blocks(
        self, positions: np.ndarray, views: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Inputs float32 [B, D], labels [B] and weights float32 [B] of those pictures, placed."""
        for view in range(views):
            for begin in range(0, len(positions), self._size):
                some = positions[begin : begin + self._size]
                inputs = (self._features.of(self._rows[some], view) - self._mean) / self._scale
                yield (
                    torch.from_numpy(inputs.astype(np.float32)).to(self._device),
                    torch.from_numpy(self._labels[some]).to(self._device),
                    torch.from_numpy(self._weights[some].astype(np.float32)).to(self._device),
                )

    def _measure(self) -> tuple[np.ndarray, np.float32]:
        """The features' mean float32 [D], and the root of their mean variance."""
        total, squares = np.zeros(self._width), np.zeros(self._width)
        for view in range(self._views):
            for begin in range(0, len(self._rows), self._size):
                block = self._features.of(self._rows[begin : begin + self._size], view)
                block = block.astype(np.float64)
                total += block.sum(axis=0)
                squares += np.square(block).sum(axis=0)
        count = self._views * len(self._rows)
        mean = total / count
        variance = float(np.maximum(squares / count - mean**2, 0.0).mean())
        return mean.astype(np.float32), np.float32(math.sqrt(variance) or 1.0)
