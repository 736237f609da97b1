"""From probabilities to decisions: when to answer, from which score on, at what cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgcls.metrics.blocks import blocks
from imgcls.metrics.curves import compute_pr_curves
from imgcls.metrics.predictions import Predictions

COVERAGES = (1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
# scikit-learn's curve is made for each class alone: a few seconds for so many scores
MOST_CURVE_CELLS = 20_000_000


def coverage_table(predictions: Predictions) -> list[dict[str, Any]]:
    """Accuracy when only the most confident pictures are answered: one row for each COVERAGES.

    coverage: the share answered, the smallest that reaches the wanted one, because pictures of
    equal confidence are answered together; threshold: the lowest confidence answered. Selective
    prediction, as in Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks"
    (2017).
    """
    order = np.argsort(-predictions.confidences, kind="stable")
    confidences = predictions.confidences[order]
    right = predictions.correct[order].cumsum()
    count = len(order)
    rows = []
    for wanted in COVERAGES:
        threshold = confidences[max(1, int(np.ceil(wanted * count - 1e-9))) - 1]
        answered = int(np.searchsorted(-confidences, -threshold, side="right"))
        rows.append(
            {
                "wanted": wanted,
                "coverage": answered / count,
                "threshold": float(threshold),
                "pictures": answered,
                "accuracy": float(right[answered - 1] / answered),
            }
        )
    return rows


def operating_points(predictions: Predictions, class_names: Sequence[str]) -> list[dict[str, Any]]:
    """For each class with pictures, the threshold on its probability with the highest F1.

    Rows of class, threshold, precision, recall, f1, as if a picture were given the class from the
    threshold on, whatever its other probabilities; of equal F1 the highest threshold. Empty
    beyond MOST_CURVE_CELLS scores.
    """
    if predictions.logits.size > MOST_CURVE_CELLS:
        return []
    rows = []
    for curve in compute_pr_curves(predictions.labels, predictions.probabilities, class_names):
        precision, recall = curve.precision[:-1], curve.recall[:-1]
        total = precision + recall
        f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
        best = len(f1) - 1 - int(f1[::-1].argmax())
        rows.append(
            {
                "class": curve.class_name,
                "threshold": float(curve.thresholds[best]),
                "precision": float(precision[best]),
                "recall": float(recall[best]),
                "f1": float(f1[best]),
            }
        )
    return rows


def least_cost_classes(predictions: Predictions, costs: np.ndarray) -> np.ndarray:
    """The class whose expected cost is lowest for each picture: int64 [N]; the first of a tie.

    costs: [C, C], the cost of deciding for the column where the row is true. Elkan, "The
    Foundations of Cost-Sensitive Learning" (2001). It takes the probabilities at their word, so
    calibrate them first.
    """
    chosen = np.empty(len(predictions.labels), dtype=np.int64)
    for rows in blocks(*predictions.logits.shape):
        expected = predictions.softmax[rows].astype(np.float64) @ costs
        chosen[rows] = expected.argmin(axis=1)
    return chosen
