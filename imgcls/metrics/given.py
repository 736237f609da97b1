"""Numbers that a script gives, in whatever it holds them, and predictions made of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from imgcls.errors import DataError
from imgcls.metrics.predictions import (
    PictureOutcomes,
    Predictions,
    ScoredPictures,
    blocks,
    ranks_of_labels,
    require_classes,
    require_scores,
)

if TYPE_CHECKING:
    import torch

ArrayLike: TypeAlias = "np.ndarray | torch.Tensor | Sequence[Any]"
_HALF_BYTES = 2
# a softmax in bfloat16 over many classes misses 1 by this much
_SUM_TOLERANCE = 0.02


def as_array(values: ArrayLike) -> np.ndarray:
    """A tensor of whatever device, a list of numbers or an array, as an array of its own type.

    float16 and bfloat16 become float32.
    """
    # by what it can do: this room does without torch
    if hasattr(values, "detach"):
        tensor = values.detach().cpu()
        half = tensor.is_floating_point() and tensor.itemsize == _HALF_BYTES
        values = (tensor.float() if half else tensor).numpy()
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float16 else array


@dataclass(frozen=True, eq=False)
class GivenPredictions(ScoredPictures):
    """Probabilities float [N, C], labels int64 [N] and decisions int64 [N], both in 0..C-1.

    decisions: the class that each picture is taken for, which need not be the likeliest one.
    Raises DataError for shapes that do not fit, classes out of range, and rows that are no
    probabilities, naming the first one.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    decisions: np.ndarray

    def __post_init__(self) -> None:
        probabilities = self.probabilities
        if probabilities.dtype.kind != "f":
            probabilities = probabilities.astype(np.float64)
        require_scores(probabilities, self.decisions, what="prediction")
        require_scores(probabilities, self.labels)
        _require_probabilities(probabilities)
        object.__setattr__(self, "probabilities", probabilities)
        for name in ("labels", "decisions"):
            object.__setattr__(self, name, getattr(self, name).astype(np.int64, copy=False))

    @property
    def softmax(self) -> np.ndarray:
        """The probabilities as they were given."""
        return self.probabilities

    @cached_property
    def outcomes(self) -> PictureOutcomes:
        """Confidence, losses and rank of each picture; a probability of 0 has a finite loss.

        It counts as the smallest step from 1 that its type has, as in scikit-learn's log_loss.
        """
        parts = [self._outcomes_of(rows) for rows in blocks(*self.probabilities.shape)]
        columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        return PictureOutcomes(self.labels, self.decisions, *columns)

    def _outcomes_of(self, rows: slice) -> tuple[np.ndarray, ...]:
        probabilities, labels = self.probabilities[rows], self.labels[rows]
        numbers = np.arange(len(labels))
        own = probabilities[numbers, labels]
        squares = np.einsum("nc,nc->n", probabilities, probabilities, dtype=np.float64)
        least = np.finfo(probabilities.dtype).eps
        return (
            probabilities[numbers, self.decisions[rows]],
            own,
            ranks_of_labels(probabilities, labels),
            -np.log(np.maximum(own, least), dtype=np.float64),
            # (p - 1)^2 in place of p^2 for the label
            squares + 1.0 - 2.0 * own.astype(np.float64),
        )


def given_predictions(
    preds: ArrayLike, targets: ArrayLike, probs: ArrayLike, num_classes: int
) -> GivenPredictions:
    """Decisions [N], labels [N] and probabilities [N, num_classes] as predictions.

    Raises DataError as GivenPredictions does, and for another number of classes.
    """
    # copies: a script may use its buffers again
    labels, probabilities, decisions = (np.array(as_array(a)) for a in (targets, probs, preds))
    if probabilities.ndim > 1:
        require_classes(num_classes, probabilities)
    return GivenPredictions(labels, probabilities, decisions)


def joined(parts: Sequence[Predictions | GivenPredictions]) -> Predictions | GivenPredictions:
    """The pictures of all parts, one part behind the other. Raises DataError for no parts."""
    if not parts:
        raise DataError("no pictures to score")
    if len(parts) == 1:
        return parts[0]
    return GivenPredictions(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        np.concatenate([part.predicted for part in parts]),
    )


def _require_probabilities(probabilities: np.ndarray) -> None:
    for rows in blocks(*probabilities.shape):
        block = probabilities[rows]
        sums = block.sum(axis=1, dtype=np.float64)
        wrong = np.flatnonzero((block.min(axis=1) < 0) | (np.abs(sums - 1.0) > _SUM_TOLERANCE))
        if len(wrong):
            raise DataError(
                f"row {rows.start + wrong[0]}: probs are no probabilities (they sum to "
                f"{sums[wrong[0]]:.3g}, the lowest is {block[wrong[0]].min():.3g}); give the "
                "softmax of the logits"
            )
