"""All metrics of one evaluated split, each with its reason where it is undefined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgcls.metrics.calibration import calibration_scores
from imgcls.metrics.curves import RankScores, rank_scores
from imgcls.metrics.predictions import Predictions, require_names
from imgcls.metrics.scores import (
    ClassCounts,
    class_counts,
    cohen_kappa,
    confused_pairs,
    confusion_counts,
    count_scores,
    matthews_correlation,
    top_k_accuracy,
)

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
        labels = predictions.labels
        counts = class_counts(labels, predictions.predicted, num_classes)
        confusion = confusion_counts(labels, predictions.predicted, num_classes)
        ranks = rank_scores(labels, predictions.softmax, predictions.label_probabilities)
        undefined: dict[str, str] = {}

        def defined(name: str, value: float, reason: str) -> float | None:
            if np.isfinite(value):
                return value
            undefined[name] = reason
            return None

        metrics: dict[str, Any] = {
            name: float(value) for name, value in count_scores(counts).items()
        }
        metrics["cohen_kappa"] = defined(
            "cohen_kappa",
            float(cohen_kappa(counts)),
            "all labels and all predictions are one same class",
        )
        metrics["mcc"] = float(matthews_correlation(counts))
        for k in self.top_k:
            metrics[f"top_{k}_accuracy"] = defined(
                f"top_{k}_accuracy",
                top_k_accuracy(predictions, k) if k < num_classes else float("nan"),
                f"with {num_classes} classes the top {k} always hold the right one",
            )
        one_sided = "no class has both a picture that belongs to it and one that does not"
        for name, by_class, micro in (
            ("roc_auc", ranks.roc_auc, ranks.micro_roc_auc),
            ("average_precision", ranks.average_precision, ranks.micro_average_precision),
        ):
            scored = by_class[ranks.scored]
            macro = float(scored.mean()) if len(scored) else float("nan")
            metrics[f"{name}_micro"] = defined(f"{name}_micro", micro, one_sided)
            metrics[f"{name}_macro"] = defined(f"{name}_macro", macro, one_sided)
        metrics |= calibration_scores(predictions)
        metrics["samples"] = len(labels)
        metrics["num_classes"] = num_classes
        metrics["classes_scored"] = int(ranks.scored.sum())
        matrix: tuple[tuple[int, ...], ...] = ()
        if num_classes <= MOST_MATRIX_CLASSES:
            matrix = tuple(map(tuple, confusion.toarray().tolist()))
        return MetricSet(
            metrics,
            undefined,
            self._per_class(counts, ranks),
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


def _none_unless(values: np.ndarray, known: np.ndarray) -> list[float | None]:
    return [v if k else None for v, k in zip(values.tolist(), known.tolist(), strict=True)]
