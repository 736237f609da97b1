"""Decisions from probabilities: coverage, thresholds for each class, least expected cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgcls.metrics.predictions import Predictions, blocks
from imgcls.metrics.resampling import Units, deal_folds, unit_numbers
from imgcls.results.evaluation import CoveragePoint, OperatingPoint

COVERAGES = (1.0, 0.99, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)
# each class is sorted alone: a few seconds for so many scores
MOST_CURVE_CELLS = 20_000_000
_FOLDS = 5


def coverage_table(predictions: Predictions) -> tuple[CoveragePoint, ...]:
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
            CoveragePoint(
                wanted=wanted,
                coverage=answered / count,
                threshold=float(threshold),
                pictures=answered,
                accuracy=float(right[answered - 1] / answered),
            )
        )
    return tuple(rows)


def operating_points(
    predictions: Predictions, class_names: Sequence[str], groups: Units | None = None
) -> tuple[OperatingPoint, ...]:
    """For each class with pictures, the threshold on its probability with the highest F1.

    Precision, recall and F1 are as if a picture were given the class from the
    threshold on, whatever its other probabilities; of equal F1 the highest threshold. held_out_f1:
    with thresholds chosen without the pictures (and groups [N]) that they are tried on, in 5 folds;
    predicted_f1: of the predicted class. Where that is no worse, the threshold is None and `reason`
    says so: few pictures always have some threshold that suits them. Empty beyond MOST_CURVE_CELLS
    scores.
    """
    if predictions.logits.size > MOST_CURVE_CELLS:
        return ()
    labels, probabilities = predictions.labels, predictions.probabilities
    units = np.arange(len(labels)) if groups is None else unit_numbers(groups)
    fold = deal_folds(units, _FOLDS)
    rows = []
    for index in np.unique(labels):
        positive, scores = labels == index, probabilities[:, index]
        *without, threshold = _best_thresholds(scores, positive, fold)
        held_out = _decided(scores >= np.array(without)[fold], positive)["f1"]
        predicted = _decided(predictions.predicted == index, positive)["f1"]
        kept = held_out > predicted
        found = _decided(scores >= threshold, positive)
        rows.append(
            OperatingPoint(
                class_name=class_names[index],
                threshold=float(threshold) if kept else None,
                **{name: value if kept else None for name, value in found.items()},
                held_out_f1=held_out,
                predicted_f1=predicted,
                reason=None if kept else "no better than the predicted class on other pictures",
            )
        )
    return tuple(rows)


def _best_thresholds(scores: np.ndarray, positive: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The score from which on F1 is highest, without each of K folds and with all: [K + 1]."""
    order = np.argsort(-scores, kind="stable")
    scores, positive, fold = scores[order], positive[order], fold[order]
    used = np.stack([*(fold != number for number in range(fold.max() + 1)), fold >= 0])
    right = used & positive
    f1 = 2 * right.cumsum(axis=1) / (used.cumsum(axis=1) + right.sum(axis=1, keepdims=True)).clip(1)
    # pictures of equal score are given the class together
    f1[:, :-1][:, scores[1:] == scores[:-1]] = -1
    # without any picture of the class, nothing is given it
    return np.where(right.any(axis=1), scores[f1.argmax(axis=1)], np.inf)


def _decided(said: np.ndarray, positive: np.ndarray) -> dict[str, float]:
    """precision, recall and f1 of saying that pictures are of a class, both bool [N]."""
    hits, claims, held = int((said & positive).sum()), int(said.sum()), int(positive.sum())
    return {
        "precision": hits / claims if claims else 0.0,
        "recall": hits / held,
        "f1": 2 * hits / (claims + held),
    }


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
