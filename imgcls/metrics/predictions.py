"""Predictions: keys, scores and labels of pictures, which inference gives and metrics take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Protocol

import numpy as np

from imgcls.errors import DataError

CELLS_PER_BLOCK = 1 << 22


class ScoredPictures(ABC):
    """N pictures with labels int64 [N] and probabilities, and what follows from the two."""

    labels: np.ndarray

    @property
    @abstractmethod
    def softmax(self) -> RowScores:
        """The probabilities [N, C], for the rows that are asked for."""

    @property
    @abstractmethod
    def outcomes(self) -> PictureOutcomes:
        """Predicted class, confidence and losses of each picture."""

    @property
    def predicted(self) -> np.ndarray:
        """The class with the highest score: int64 [N]; the first one of a tie."""
        return self.outcomes.predicted

    @property
    def confidences(self) -> np.ndarray:
        """The probability of the predicted class: float [N]."""
        return self.outcomes.confidences

    @property
    def label_probabilities(self) -> np.ndarray:
        """The probability of each picture's own class: float [N]."""
        return self.outcomes.label_probabilities

    @property
    def correct(self) -> np.ndarray:
        """Where the predicted class is the label: bool [N]."""
        return self.outcomes.correct

    @property
    def label_ranks(self) -> np.ndarray:
        """How many classes rank above the label's: int64 [N], 0 is the top.

        Of equal scores the higher class index ranks higher, and with two classes the lower, as in
        scikit-learn's top_k_accuracy_score (which there thresholds class 1's score).
        """
        return self.outcomes.label_ranks

    @property
    def picture_losses(self) -> np.ndarray:
        """Cross-entropy of each picture, computed in float64: float64 [N]."""
        return self.outcomes.picture_losses

    @property
    def brier_scores(self) -> np.ndarray:
        """Squared distance of each picture's probabilities from the one-hot truth: float64 [N].

        0 to 2: summed over all classes, also for two (scikit-learn's `scale_by_half=False`).
        Brier, "Verification of forecasts expressed in terms of probability" (1950).
        """
        return self.outcomes.brier_scores


@dataclass(frozen=True, eq=False)
class Predictions(ScoredPictures):
    """Scores of N pictures: keys [N], logits float32 [N, C], labels int64 [N] in 0..C-1.

    The logits may be a memory-mapped file: all but `probabilities` goes over blocks of rows, one
    behind the other. `temperature` divides the logits inside the softmax only, so that it changes
    probabilities and never which class is predicted, not even by rounding.

    Other float and integer types are converted. Raises DataError for no pictures at all, shapes
    that do not fit, labels out of range, and logits that are not finite, naming the first picture.
    """

    keys: tuple[str, ...]
    logits: np.ndarray
    labels: np.ndarray
    temperature: float = 1.0

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        with np.errstate(over="ignore"):  # too large for float32 becomes inf, refused just below
            logits = np.asarray(self.logits, dtype=np.float32)
        require_scores(logits, labels, self.keys)
        object.__setattr__(self, "logits", logits)
        object.__setattr__(self, "labels", labels.astype(np.int64, copy=False))

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits over the temperature: float32 [N, C], all in memory."""
        return self.softmax[:]

    @property
    def softmax(self) -> Softmax:
        """The probabilities, worked out for the rows that are asked for."""
        return Softmax(self.logits, self.temperature)

    @cached_property
    def outcomes(self) -> PictureOutcomes:
        """Predicted class, confidence and losses of each picture, from one pass over all scores."""
        parts = [self._outcomes_of(rows) for rows in blocks(*self.logits.shape)]
        columns = (np.concatenate(column) for column in zip(*parts, strict=True))
        return PictureOutcomes(self.labels, *columns)

    def _outcomes_of(self, rows: slice) -> tuple[np.ndarray, ...]:
        logits, labels, every = self.logits[rows], self.labels[rows], slice(None)
        numbers = np.arange(len(labels))
        probabilities = Softmax(logits, self.temperature)[every]
        predicted = logits.argmax(axis=1)
        own = probabilities[numbers, labels]
        confidences = probabilities[numbers, predicted]
        squares = np.einsum("nc,nc->n", probabilities, probabilities, dtype=np.float64)
        return (
            predicted,
            confidences,
            own,
            ranks_of_labels(logits, labels),
            cross_entropies(logits, labels, 1.0 / self.temperature),
            # (p - 1)^2 in place of p^2 for the label
            squares + 1.0 - 2.0 * own.astype(np.float64),
        )


@dataclass(frozen=True, eq=False)
class PictureOutcomes:
    """Predicted class, confidence and losses of N pictures; see the properties of Predictions."""

    labels: np.ndarray
    predicted: np.ndarray
    confidences: np.ndarray
    label_probabilities: np.ndarray
    label_ranks: np.ndarray
    picture_losses: np.ndarray
    brier_scores: np.ndarray

    @cached_property
    def correct(self) -> np.ndarray:
        """Where the predicted class is the label: bool [N]."""
        return np.asarray(self.predicted == self.labels)

    def of(self, rows: np.ndarray) -> PictureOutcomes:
        """The outcomes of some of the pictures, int64 [n]."""
        return PictureOutcomes(*(getattr(self, field.name)[rows] for field in fields(self)))


def ranks_of_labels(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How many classes rank above the label's, see `label_ranks`: int64 [N]; scores [N, C]."""
    classes = np.arange(logits.shape[1])
    own = logits[np.arange(len(labels)), labels][:, None]
    above: np.ndarray = np.count_nonzero(logits > own, axis=1)
    equal = logits == own
    tied = np.flatnonzero(np.count_nonzero(equal, axis=1) > 1)
    own_class = labels[tied, None]
    ahead = classes > own_class if len(classes) > 2 else classes < own_class  # noqa: PLR2004
    above[tied] += np.count_nonzero(equal[tied] & ahead, axis=1)
    return above


class RowScores(Protocol):
    """Scores [N, C] that are read a block of rows at a time: an array, or a Softmax."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C)."""

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """The scores of these rows, [rows, C]."""


@dataclass(frozen=True, eq=False)
class Softmax:
    """softmax(logits / temperature) in float32, row by row; a RowScores."""

    logits: np.ndarray
    temperature: float

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C)."""
        return self.logits.shape

    def __getitem__(self, rows: slice, /) -> np.ndarray:
        """The probabilities of these rows, a new float32 array."""
        logits = self.logits[rows]
        with np.errstate(over="ignore"):  # a gap beyond float32's range is -inf: probability 0
            scores: np.ndarray = logits - logits.max(axis=1, keepdims=True)
            scores /= np.float32(self.temperature)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=1, keepdims=True)
        return scores


def cross_entropies(logits: np.ndarray, labels: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Cross-entropy of each row of softmax(logits * scale), in float64: float64 [N]."""
    losses = np.empty(len(labels))
    for rows in blocks(*logits.shape):
        scores = logits[rows].astype(np.float64)
        scores -= scores.max(axis=1, keepdims=True)
        scores *= scale
        own = scores[np.arange(len(scores)), labels[rows]]
        losses[rows] = np.log(np.exp(scores, out=scores).sum(axis=1)) - own
    return losses


def require_scores(
    scores: np.ndarray,
    labels: np.ndarray,
    keys: Sequence[str] | None = None,
    *,
    what: str = "label",
) -> None:
    """Raise DataError unless scores are finite floats [N, C] and labels integers [N] in 0..C-1.

    `keys` [N] name the rows in messages; without them a row is named by its number. what: one of
    the labels, in messages.
    """
    if keys is not None and len(keys) == 0:
        raise DataError("no pictures to score")
    if scores.ndim != 2 or labels.ndim != 1 or not scores.shape[1]:  # noqa: PLR2004
        raise DataError(
            f"scores of shape {scores.shape} with {what}s of shape {labels.shape} cannot be "
            "scored; they must be [pictures, classes] and [pictures]"
        )
    count, classes = scores.shape
    named = count if keys is None else len(keys)
    if not count == named == len(labels):
        raise DataError(
            f"{named} pictures, {count} rows of scores and {len(labels)} {what}s do not belong "
            "together"
        )
    if not count:
        raise DataError("no pictures to score")
    if labels.dtype.kind not in "iu":
        raise DataError(f"{what}s are {labels.dtype}; they must be class numbers (integers)")
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        first = outside[0]
        raise DataError(
            f"{_row_name(keys, first)}: {what} {labels[first]} is not one of the model's {classes} "
            f"outputs, which are numbered from 0 to {classes - 1}"
        )
    finite = [np.isfinite(scores[rows]).all(axis=1) for rows in blocks(count, classes)]
    broken = np.flatnonzero(~np.concatenate(finite))
    if len(broken):
        raise DataError(
            f"the model's output is not finite for {len(broken)} of {count} pictures, the first is "
            f"{_row_name(keys, broken[0])}; the weights or the picture are damaged"
        )


def require_names(class_names: Sequence[str], scores: RowScores) -> None:
    """Raise DataError unless there is one class name for each column of scores [N, C]."""
    if len(class_names) != scores.shape[1]:
        raise DataError(
            f"{len(class_names)} class names do not fit scores of {scores.shape[1]} classes"
        )


def require_classes(num_classes: int, scores: np.ndarray) -> None:
    """Raise DataError unless scores [N, C] have so many columns."""
    if scores.shape[1] != num_classes:
        raise DataError(f"scores of {scores.shape[1]} classes do not fit num_classes {num_classes}")


def numbered(num_classes: int) -> tuple[str, ...]:
    """The names of classes of which only the number is known: "0", "1", ..."""
    return tuple(map(str, range(num_classes)))


def _row_name(keys: Sequence[str] | None, row: int) -> str:
    return f"row {row}" if keys is None else keys[row]


def blocks(count: int, cells_each: int, fewest: int = 1) -> Iterator[slice]:
    """Slices that cover `count` rows (or columns) of `cells_each` cells, at least `fewest` each.

    Temporary copies of a slice stay a few tens of MiB, however large the whole is.
    """
    step = max(fewest, CELLS_PER_BLOCK // max(1, cells_each))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
