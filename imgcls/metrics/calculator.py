"""All metrics of one evaluated split, each with its reason where it is undefined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from imgcls.metrics.curves import RankScores, micro_areas, rank_scores
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.scores import (
    class_scores,
    confusion_counts,
    count_scores,
    top_k_accuracy,
)


@dataclass(frozen=True)
class MetricSet:
    """Metrics of one split. A None in `metrics` has its reason in `undefined`, by name."""

    metrics: dict[str, Any]
    undefined: dict[str, str]
    per_class: tuple[dict[str, Any], ...]
    confusion_matrix: tuple[tuple[int, ...], ...]


class MetricsCalculator:
    """Computes every metric of `test_metrics.json` for classes in a fixed order."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = tuple(class_names)

    def compute(self, predictions: Predictions) -> MetricSet:
        """Metrics, per-class rows and confusion matrix (rows true, columns predicted)."""
        num_classes = len(self.class_names)
        labels, probabilities = predictions.labels, predictions.probabilities
        confusion = confusion_counts(labels, predictions.predicted, num_classes)
        ranks = rank_scores(labels, probabilities)
        micro_auc, micro_ap = micro_areas(labels, probabilities)
        undefined: dict[str, str] = {}

        def defined(name: str, value: float, reason: str) -> float | None:
            if np.isfinite(value):
                return value
            undefined[name] = reason
            return None

        metrics: dict[str, Any] = dict(count_scores(confusion))
        for k in (1, 3, 5):
            metrics[f"top_{k}_accuracy"] = defined(
                f"top_{k}_accuracy",
                top_k_accuracy(predictions, k) if k < num_classes else float("nan"),
                f"with {num_classes} classes the top {k} always hold the right one",
            )
        one_sided = "no class has both a picture that belongs to it and one that does not"
        for name, by_class, micro in (
            ("roc_auc", ranks.roc_auc, micro_auc),
            ("average_precision", ranks.average_precision, micro_ap),
        ):
            scored = by_class[ranks.scored]
            macro = float(scored.mean()) if len(scored) else float("nan")
            metrics[f"{name}_micro"] = defined(f"{name}_micro", micro, one_sided)
            metrics[f"{name}_macro"] = defined(f"{name}_macro", macro, one_sided)
        metrics["nll"] = float(predictions.picture_losses.mean())
        metrics["samples"] = len(labels)
        metrics["num_classes"] = num_classes
        metrics["classes_scored"] = int(ranks.scored.sum())
        return MetricSet(
            metrics,
            undefined,
            self._per_class(confusion, ranks),
            tuple(tuple(int(n) for n in row) for row in confusion),
        )

    def _per_class(self, confusion: np.ndarray, ranks: RankScores) -> tuple[dict[str, Any], ...]:
        scores = class_scores(confusion)
        return tuple(
            {
                "class": name,
                "support": int(scores["support"][i]),
                "predicted": int(scores["predicted"][i]),
                "precision": float(scores["precision"][i]) if scores["predicted"][i] else None,
                "recall": float(scores["recall"][i]) if scores["support"][i] else None,
                "f1": (
                    float(scores["f1"][i])
                    if scores["support"][i] + scores["predicted"][i]
                    else None
                ),
                "roc_auc": float(ranks.roc_auc[i]) if ranks.scored[i] else None,
                "average_precision": (
                    float(ranks.average_precision[i]) if ranks.scored[i] else None
                ),
            }
            for i, name in enumerate(self.class_names)
        )
