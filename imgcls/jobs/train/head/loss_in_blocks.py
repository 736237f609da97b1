"""The loss of a linear classifier over many features, and its slopes: a block at a time."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from imgcls.data.loading.features import FeatureSet
from imgcls.errors import ModelError
from imgcls.jobs.train.head.logistic import NEVER

# numbers in a block of features, or of logits: a signal is heard between two
_BLOCK = 2**22
# features whose covariance is turned at once; that of twice as many takes eight times as long
_TURNED_AT_ONCE = 2048


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over pictures and views.

    loss; by_table [C, D + 1], its gradient; curvature [C], p (1 - p) of the probability of a class.
    """

    loss: float
    by_table: np.ndarray
    curvature: np.ndarray


class LossInBlocks:
    """The loss of tables float64 [C, D + 1], a row the weights of a class and behind them its bias.

    A table is for features with a mean of 0 and a mean variance of 1, as `fit_logistic` has them,
    and turned into the axes of their covariance, along which their variance is `spread` [D].
    Raises ModelError where they are not all finite.
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
        self.labels, self.weights, self.num_classes = labels, weights, num_classes
        self.views, self.width = len(features.values), features.values.shape[-1]
        self._features, self._rows = features, rows
        self._device = device
        self._size = max(_BLOCK // max(self.width, num_classes), 1)
        self.mean, self.scale = self._measure()
        self.spread, self._axes = self._covariance_axes()

    def sums(self, table: np.ndarray, positions: np.ndarray) -> Sums:
        """Over the pictures at these positions, in all views."""
        weight, bias = self._placed(table, positions)
        loss = 0.0
        slopes = torch.zeros_like(weight)
        heights = torch.zeros(self.num_classes, dtype=torch.float64)
        curvature = torch.zeros(self.num_classes, dtype=torch.float64)
        with torch.inference_mode():
            for inputs, labels, weights in self._blocks(positions, self.views):
                log_shares = torch.log_softmax(inputs @ weight.T + bias, dim=1)
                own = log_shares.gather(1, labels[:, None]).squeeze(1)
                loss -= _sum(own * weights)
                # of the loss by the logits: the shares, less one for the picture's own class
                by_logits = log_shares.exp_()
                curvature += (weights @ by_logits - weights @ by_logits.square()).cpu().double()
                by_logits[torch.arange(len(labels), device=self._device), labels] -= 1
                by_logits *= weights[:, None]
                slopes += by_logits.T @ inputs
                heights += by_logits.sum(dim=0).cpu().double()
        turned = self._turned(slopes.cpu().double().numpy(), back=False)
        by_table = np.concatenate([turned, heights.numpy()[:, None]], axis=1)
        return Sums(loss, by_table, curvature.numpy())

    def held_out(self, table: np.ndarray, positions: np.ndarray, fitted: np.ndarray) -> float:
        """The weighted mean loss of these pictures, in view 0, by a table of those of `fitted`."""
        weight, bias = self._placed(table, fitted)
        total = 0.0
        with torch.inference_mode():
            for inputs, labels, weights in self._blocks(positions, views=1):
                losses = cross_entropy(inputs @ weight.T + bias, labels, reduction="none")
                total += _sum(losses * weights)
        return total / float(self.weights[positions].sum())

    def classifier(self, table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(weights [C, D], biases [C]), for the features as they are."""
        weight = self._turned(table[:, :-1], back=True) / self.scale
        return weight, table[:, -1] - weight @ self.mean

    def _placed(self, table: np.ndarray, fitted: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights and biases on the device; a class without fitted pictures is never predicted."""
        weight = torch.from_numpy(self._turned(table[:, :-1], back=True)).float()
        absent = np.bincount(self.labels[fitted], minlength=self.num_classes) == 0
        bias = torch.from_numpy(np.where(absent, NEVER, table[:, -1])).float()
        return weight.to(self._device), bias.to(self._device)

    def _turned(self, weights: np.ndarray, *, back: bool) -> np.ndarray:
        """Weights [C, D] of features in those of their axes, or back."""
        turned = np.empty_like(weights)
        few = max(_BLOCK // self.width, 1)
        for begin in range(0, len(weights), few):
            some = slice(begin, begin + few)
            for columns, axes in self._axes:
                turned[some, columns] = weights[some, columns] @ (axes.T if back else axes)
        return turned

    def _blocks(
        self, positions: np.ndarray, views: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Inputs float32 [B, D], labels [B] and weights float32 [B] of those pictures, placed."""
        for view in range(views):
            for begin in range(0, len(positions), self._size):
                some = positions[begin : begin + self._size]
                inputs = (self._features.of(self._rows[some], view) - self.mean) / self.scale
                yield (
                    torch.from_numpy(inputs.astype(np.float32)).to(self._device),
                    torch.from_numpy(self.labels[some]).to(self._device),
                    torch.from_numpy(self.weights[some].astype(np.float32)).to(self._device),
                )

    def _measure(self) -> tuple[np.ndarray, np.float32]:
        """The features' mean float32 [D], and the root of their mean variance."""
        total, squares = np.zeros(self.width), np.zeros(self.width)
        for view in range(self.views):
            for begin in range(0, len(self._rows), self._size):
                block = self._features.of(self._rows[begin : begin + self._size], view)
                block = block.astype(np.float64)
                total += block.sum(axis=0)
                squares += np.square(block).sum(axis=0)
        count = self.views * len(self._rows)
        mean = total / count
        with np.errstate(invalid="ignore"):  # of inf
            variance = float(np.maximum(squares / count - mean**2, 0.0).mean())
        if not math.isfinite(variance):
            raise ModelError(
                "the model's features are not all finite numbers; use --amp off, or other weights"
            )
        return mean.astype(np.float32), np.float32(math.sqrt(variance) or 1.0)

    def _covariance_axes(self) -> tuple[np.ndarray, list[tuple[slice, np.ndarray]]]:
        """The variance along each axis [D], and the axes in columns, for groups of features."""
        groups = [
            slice(begin, min(begin + _TURNED_AT_ONCE, self.width))
            for begin in range(0, self.width, _TURNED_AT_ONCE)
        ]
        products = [torch.zeros(g.stop - g.start, g.stop - g.start) for g in groups]
        with torch.inference_mode():
            for inputs, _, _ in self._blocks(np.arange(len(self._rows)), self.views):
                for number, group in enumerate(groups):
                    products[number] += (inputs[:, group].T @ inputs[:, group]).cpu()
        spread, axes = [], []
        for group, product in zip(groups, products, strict=True):
            covariance = product.double().numpy() / (self.views * len(self._rows))
            variances, directions = _eigh(covariance)
            spread.append(np.maximum(variances, 0.0))
            axes.append((group, directions))
        return np.concatenate(spread), axes


def _eigh(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors.

    It is one call of seconds. In a thread, for which the main one waits, that hears signals.
    """
    found = []
    thread = threading.Thread(target=lambda: found.append(np.linalg.eigh(matrix)), daemon=True)
    thread.start()
    thread.join()
    [(values, vectors)] = found
    return values, vectors


def _sum(values: torch.Tensor) -> float:
    """The sum in float64, which not every device has."""
    return float(values.cpu().double().sum())
