"""How far a metric could lie from its value by the luck of which pictures were in the split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgcls.errors import ConfigError, DataError
from imgcls.metrics.blocks import blocks
from imgcls.metrics.calibration import brier_scores
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.scores import ClassCounts, count_scores

COUNT_METRICS = ("accuracy", "balanced_accuracy", "precision_macro", "recall_macro", "f1_macro")


def bootstrap_intervals(
    predictions: Predictions,
    samples: int = 1000,
    seed: int = 0,
    groups: Sequence[object] | np.ndarray | None = None,
    confidence: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """(low, high) of accuracy, balanced_accuracy, precision, recall and f1 macro, nll and brier.

    Percentile bootstrap (Efron and Tibshirani, 1993) of `samples` resamples. Without groups
    pictures are drawn anew within each class, so every resample has the split's class counts; with
    groups [N] (patient, site) whole groups are drawn, within those of the same most frequent
    class. Pictures that are all right, or a class of one picture, show no spread: the interval is
    then too narrow. The same seed gives the same intervals.

    Raises ConfigError for samples < 1 or a confidence outside 0..1, DataError for groups that do
    not fit or when there are fewer than two pictures or groups to draw from.
    """
    if samples < 1:
        raise ConfigError(f"{samples} bootstrap samples are too few; 1000 are usual")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence {confidence} is not between 0 and 1; 0.95 is usual")
    units, strata = _units(predictions, groups)
    rng = np.random.default_rng(seed)
    tally = _Tally(predictions)
    parts = [
        tally.metrics(_draw(rng, strata, rows.stop - rows.start)[:, units])
        for rows in blocks(samples, len(units))
    ]
    tail = (1 - confidence) / 2
    intervals = {}
    for name in parts[0]:
        low, high = np.quantile(np.concatenate([part[name] for part in parts]), (tail, 1 - tail))
        intervals[name] = (float(low), float(high))
    return intervals


class _Tally:
    """Metrics of many resamples at once, each given by how often it holds each picture."""

    def __init__(self, predictions: Predictions) -> None:
        self._num_classes = predictions.logits.shape[1]
        self._correct = predictions.correct
        self._by_label = _Sums(predictions.labels)
        self._by_predicted = _Sums(predictions.predicted)
        self._losses = predictions.picture_losses
        self._briers = brier_scores(predictions)

    def metrics(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """weights: float64 [R, N], times that each resample holds each picture. Gives [R] each."""
        counts = ClassCounts(
            hits=self._by_label(weights * self._correct, self._num_classes),
            support=self._by_label(weights, self._num_classes),
            predicted=self._by_predicted(weights, self._num_classes),
        )
        scores = count_scores(counts)
        total = weights.sum(axis=1)
        return {
            **{name: scores[name] for name in COUNT_METRICS},
            "nll": weights @ self._losses / total,
            "brier": weights @ self._briers / total,
        }


class _Sums:
    """Sums of weights [R, N] by the class of each of the N pictures."""

    def __init__(self, classes: np.ndarray) -> None:
        self._order = np.argsort(classes, kind="stable")
        self._present, self._starts = np.unique(classes[self._order], return_index=True)

    def __call__(self, weights: np.ndarray, num_classes: int) -> np.ndarray:
        sums = np.zeros((len(weights), num_classes))
        sums[:, self._present] = np.add.reduceat(weights[:, self._order], self._starts, axis=1)
        return sums


def _units(
    predictions: Predictions, groups: Sequence[object] | np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(the unit of each picture [N], the stratum of each unit [U]); a unit is drawn as one."""
    labels = predictions.labels
    if groups is None:
        units, strata, word = np.arange(len(labels)), labels, "picture"
    else:
        if len(groups) != len(labels):
            raise DataError(f"{len(groups)} groups do not fit {len(labels)} pictures")
        _, units = np.unique(np.asarray(groups), return_inverse=True)
        strata, word = _most_frequent_label(units, labels), "group"
    if len(strata) < 2:  # noqa: PLR2004
        raise DataError(f"one {word} alone tells nothing about spread: no interval can be given")
    return units, strata


def _most_frequent_label(units: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label that most pictures of each unit have, the lowest of a tie: int64 [U]."""
    pairs, counts = np.unique(np.stack([units, labels]), axis=1, return_counts=True)
    # by unit, then falling count, then rising label: the first row of each unit is its answer
    order = np.lexsort((pairs[1], -counts, pairs[0]))
    _, first = np.unique(pairs[0][order], return_index=True)
    return np.asarray(pairs[1][order][first])


def _draw(rng: np.random.Generator, strata: np.ndarray, samples: int) -> np.ndarray:
    """How often each unit is drawn, with replacement within its stratum: float64 [samples, U]."""
    count = len(strata)
    order = np.argsort(strata, kind="stable")
    _, starts, places, sizes = np.unique(
        strata[order], return_index=True, return_inverse=True, return_counts=True
    )
    offsets = (rng.random((samples, count)) * sizes[places]).astype(np.int64)
    drawn = order[starts[places] + offsets] + np.arange(samples)[:, None] * count
    times = np.bincount(drawn.ravel(), minlength=samples * count)
    return times.reshape(samples, count).astype(np.float64)
