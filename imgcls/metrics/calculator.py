"""All metrics of one evaluated split, each with its reason where it is undefined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np

from imgcls.errors import DataError
from imgcls.metrics.curves import RankScores, rank_scores
from imgcls.metrics.given import ArrayLike, GivenPredictions, given_predictions, joined
from imgcls.metrics.predictions import Predictions, ScoredPictures, numbered, require_names
from imgcls.metrics.registry import SIZES, VALIDATION, Metric, all_metrics
from imgcls.metrics.scores import ClassCounts, class_counts, confused_pairs, confusion_counts
from imgcls.results.evaluation import ClassScores, Confusion

# the square of it still fits into memory and into a file that opens
MOST_MATRIX_CLASSES = 2000
MOST_CONFUSIONS = 100


@dataclass(frozen=True)
class MetricSet:
    """Metrics of one split. A None in `metrics` has its reason in `undefined`, by name.

    confusion_matrix: rows true, columns predicted; () beyond MOST_MATRIX_CLASSES. confusions: true,
    predicted and pictures of the commonest MOST_CONFUSIONS mistakes.
    """

    metrics: dict[str, Any]
    undefined: dict[str, str]
    per_class: tuple[ClassScores, ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    confusions: tuple[Confusion, ...]


class MetricSource:
    """What the metrics of some predictions are computed from, each part when it is first needed."""

    def __init__(self, predictions: ScoredPictures) -> None:
        self.predictions = predictions
        self.num_classes = predictions.softmax.shape[1]

    @cached_property
    def counts(self) -> ClassCounts:
        """Hits, support and predictions of each class."""
        return class_counts(self.predictions.labels, self.predictions.predicted, self.num_classes)

    @cached_property
    def areas(self) -> RankScores:
        """Areas under the curves of each class."""
        scored = self.predictions
        return rank_scores(scored.labels, scored.softmax, scored.label_probabilities)

    def value(self, metric: Metric) -> float:
        """The metric; nan where it is undefined."""
        if self.num_classes <= metric.more_classes_than:
            return float("nan")
        if metric.from_counts is not None:
            return float(metric.from_counts(self.counts))
        if metric.from_pictures is not None:
            return float(metric.from_pictures(self.predictions.outcomes).mean())
        if metric.from_areas is not None:
            return metric.from_areas(self.areas)
        if metric.from_outcomes is not None:
            return metric.from_outcomes(self.predictions.outcomes)
        assert metric.from_scores is not None
        return metric.from_scores(self.predictions)


class MetricsCalculator:
    """Computes every metric of `test_metrics.json` for classes in a fixed order.

    MetricsCalculator(num_classes, class_names=None), or of the names alone. Without names the
    classes are called by their numbers. top_k: the k of the `top_{k}_accuracy` metrics. Of one set
    of predictions, `compute(predictions)`; batch by batch, `update(...)` and `compute()`.
    """

    @overload
    def __init__(
        self,
        num_classes: int,
        class_names: Sequence[str] | None = None,
        top_k: Sequence[int] = (1, 3, 5),
    ) -> None: ...

    @overload
    def __init__(self, class_names: Sequence[str], top_k: Sequence[int] = (1, 3, 5)) -> None: ...

    def __init__(self, *arguments: Any, **named: Any) -> None:
        first = named.get("num_classes", arguments[0] if arguments else None)
        by_number = isinstance(first, (int, np.integer))
        self.class_names, self.top_k = (_numbered if by_number else _named)(*arguments, **named)
        self._parts: list[Predictions | GivenPredictions] = []

    def update(self, preds: ArrayLike, targets: ArrayLike, probs: ArrayLike) -> None:
        """Take in a batch: predicted and true classes [B], probabilities [B, C].

        Arrays, lists or torch tensors of whatever integer and float types. Raises DataError for
        those that do not fit, and leaves what was taken in before as it is.
        """
        self.add(given_predictions(preds, targets, probs, len(self.class_names)))

    def add(self, predictions: Predictions | GivenPredictions) -> None:
        """Take in predictions as they are, for `compute()`."""
        self._parts.append(predictions)

    def reset(self) -> None:
        """Forget what was taken in."""
        self._parts.clear()

    @property
    def collected(self) -> Predictions | GivenPredictions:
        """All that was taken in. Raises DataError for nothing."""
        return joined(self._parts)

    @overload
    def compute(self) -> dict[str, float]: ...

    @overload
    def compute(self, predictions: Predictions | GivenPredictions) -> MetricSet: ...

    def compute(
        self, predictions: Predictions | GivenPredictions | None = None
    ) -> dict[str, float] | MetricSet:
        """Metrics, per-class rows and confusions of predictions.

        Without any: the metrics alone, of all that was taken in, nan where undefined;
        `compute(calculator.collected)` says why. Raises DataError when the predictions have another
        number of classes.
        """
        if predictions is None:
            return as_floats(self._metric_set(self.collected).metrics)
        return self._metric_set(predictions)

    def _metric_set(self, predictions: Predictions | GivenPredictions) -> MetricSet:
        require_names(self.class_names, predictions.softmax)
        names, num_classes = self.class_names, len(self.class_names)
        source = MetricSource(predictions)
        metrics: dict[str, Any] = {}
        undefined: dict[str, str] = {}
        for metric in all_metrics(self.top_k):
            value = source.value(metric)
            metrics[metric.name] = value if np.isfinite(value) else None
            if metrics[metric.name] is None:
                undefined[metric.name] = metric.undefined.format(num_classes=num_classes)
        sizes = (len(predictions.labels), num_classes, int(source.areas.scored.sum()))
        metrics |= zip(SIZES, sizes, strict=True)
        confusion = confusion_counts(predictions.labels, predictions.predicted, num_classes)
        matrix: tuple[tuple[int, ...], ...] = ()
        if num_classes <= MOST_MATRIX_CLASSES:
            matrix = tuple(map(tuple, confusion.toarray().tolist()))
        return MetricSet(
            metrics,
            undefined,
            self._per_class(source.counts, source.areas),
            matrix,
            tuple(
                Confusion(names[true], names[guess], count)
                for true, guess, count in confused_pairs(confusion, MOST_CONFUSIONS)
            ),
        )

    def _per_class(self, counts: ClassCounts, ranks: RankScores) -> tuple[ClassScores, ...]:
        supported, guessed = counts.support > 0, counts.predicted > 0
        columns = (
            self.class_names,
            counts.support.astype(int).tolist(),
            counts.predicted.astype(int).tolist(),
            _none_unless(counts.precision, guessed),
            _none_unless(counts.recall, supported),
            _none_unless(counts.f1, supported | guessed),
            _none_unless(ranks.roc_auc, ranks.scored),
            _none_unless(ranks.average_precision, ranks.scored),
        )
        return tuple(ClassScores(*row) for row in zip(*columns, strict=True))


def validation_metrics(predictions: Predictions) -> dict[str, float | None]:
    """The `val_` columns of `history.csv`, with standard errors (`_se`); None where undefined."""
    source = MetricSource(predictions)
    metrics: dict[str, float | None] = {}
    for column in VALIDATION:
        value = source.value(column.metric)
        metrics[column.name] = value if np.isfinite(value) else None
        if column.standard_error is not None:
            metrics[f"{column.name}_se"] = column.standard_error(source.counts)
    return metrics


def as_floats(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """The metrics with nan where one is undefined, which scripts can print and compare."""
    return {name: math.nan if value is None else value for name, value in metrics.items()}


def _numbered(
    num_classes: int,
    class_names: Sequence[str] | None = None,
    top_k: Sequence[int] = (1, 3, 5),
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    names = numbered(num_classes) if class_names is None else tuple(class_names)
    if len(names) != num_classes:
        raise DataError(f"{len(names)} class names do not fit num_classes {num_classes}")
    return names, tuple(top_k)


def _named(
    class_names: Sequence[str], top_k: Sequence[int] = (1, 3, 5)
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    return tuple(class_names), tuple(top_k)


def _none_unless(values: np.ndarray, known: np.ndarray) -> list[float | None]:
    return [v if k else None for v, k in zip(values.tolist(), known.tolist(), strict=True)]
