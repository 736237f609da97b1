"""The one currency between inference and everything that scores, plots or exports."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from imgcls.errors import DataError


@dataclass(frozen=True, eq=False)
class Predictions:
    """Scores of N pictures: keys [N], logits float32 [N, C], labels int64 [N] in 0..C-1.

    Raises DataError for no pictures at all, for labels out of range, and for logits that are not
    finite, naming the first picture.
    """

    keys: tuple[str, ...]
    logits: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if not self.keys:
            raise DataError("no pictures to score")
        count, classes = self.logits.shape
        if not count == len(self.keys) == len(self.labels):
            raise DataError(
                f"{len(self.keys)} pictures, {count} rows of scores and {len(self.labels)} labels "
                "do not belong together"
            )
        outside = np.flatnonzero((self.labels < 0) | (self.labels >= classes))
        if len(outside):
            key, label = self.keys[outside[0]], self.labels[outside[0]]
            raise DataError(f"{key}: label {label} is not one of the model's {classes} outputs")
        broken = np.flatnonzero(~np.isfinite(self.logits).all(axis=1))
        if len(broken):
            raise DataError(
                f"the model's output is not finite for {len(broken)} of {count} pictures, the "
                f"first is {self.keys[broken[0]]}; the weights or the picture are damaged"
            )

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Softmax of the logits: float32 [N, C]."""
        logits = self.logits.astype(np.float32, copy=False)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))

    @cached_property
    def predicted(self) -> np.ndarray:
        """The class with the highest score: int64 [N]; the first one of a tie."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @cached_property
    def picture_losses(self) -> np.ndarray:
        """Cross-entropy of each picture: float64 [N]."""
        logits = self.logits.astype(np.float64)
        shifted = logits - logits.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(shifted).sum(axis=1))
        return np.asarray(log_total - shifted[np.arange(len(logits)), self.labels])
