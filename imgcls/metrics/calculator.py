"""All metrics of one evaluated split, each with its reason where it is undefined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from imgcls.metrics.curves import RankScores, rank_scores
from imgcls.metrics.predictions import Predictions, require_names
from imgcls.metrics.registry import SIZES, VALIDATION, Metric, all_metrics
from imgcls.metrics.scores import ClassCounts, class_counts, confused_pairs, confusion_counts

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
    per_class: tuple[dict[str, Any], ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    confusions: tuple[dict[str, Any], ...]


class MetricSource:
    """What the metrics of some predictions are computed from, each part when it is first needed."""

    def __init__(self, predictions: Predictions) -> None:
        self.predictions = predictions
        self.num_classes = predictions.logits.shape[1]

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
            return float(metric.from_pictures(self.predictions.facts).mean())
        if metric.from_areas is not None:
            return metric.from_areas(self.areas)
        if metric.from_facts is not None:
            return metric.from_facts(self.predictions.facts)
        assert metric.from_scores is not None
        return metric.from_scores(self.predictions)


class MetricsCalculator:
    """Computes every metric of `test_metrics.json` for classes in a fixed order.

    top_k: the k of the `top_{k}_accuracy` metrics.
    """

    def __init__(self, class_names: Sequence[str], top_k: Sequence[int] = (1, 3, 5)) -> None:
        self.class_names = tuple(class_names)
        self.top_k = tuple(top_k)

    def compute(self, predictions: Predictions) -> MetricSet:
        """Metrics, per-class rows and confusions.

        Raises DataError when the predictions have another number of classes.
        """
        require_names(self.class_names, predictions.logits)
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
                {"true": names[true], "predicted": names[guess], "count": count}
                for true, guess, count in confused_pairs(confusion, MOST_CONFUSIONS)
            ),
        )

    def _per_class(self, counts: ClassCounts, ranks: RankScores) -> tuple[dict[str, Any], ...]:
        supported, guessed = counts.support > 0, counts.predicted > 0
        columns = {
            "class": list(self.class_names),
            "support": counts.support.astype(int).tolist(),
            "predicted": counts.predicted.astype(int).tolist(),
            "precision": _none_unless(counts.precision, guessed),
            "recall": _none_unless(counts.recall, supported),
            "f1": _none_unless(counts.f1, supported | guessed),
            "roc_auc": _none_unless(ranks.roc_auc, ranks.scored),
            "average_precision": _none_unless(ranks.average_precision, ranks.scored),
        }
        rows = zip(*columns.values(), strict=True)
        return tuple(dict(zip(columns, row, strict=True)) for row in rows)


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


def _none_unless(values: np.ndarray, known: np.ndarray) -> list[float | None]:
    return [v if k else None for v, k in zip(values.tolist(), known.tolist(), strict=True)]
