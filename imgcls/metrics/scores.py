"""Scores from counts: accuracy, precision, recall, F1, top-k.

Precision, recall and F1 equal scikit-learn's defaults (classes seen in truth or prediction,
`zero_division=0`); all come from one confusion matrix instead of one pass each.
"""

from __future__ import annotations

import numpy as np

from imgcls.metrics.predictions import Predictions


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Pictures by true class (row) and predicted class (column): int64 [C, C]."""
    flat = np.bincount(labels * num_classes + predicted, minlength=num_classes**2)
    return flat.reshape(num_classes, num_classes)


def class_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Per class, float64 [C]: precision, recall, f1 (0 where undefined); support, predicted."""
    hits = np.diag(confusion).astype(np.float64)
    support = confusion.sum(axis=1).astype(np.float64)
    predicted = confusion.sum(axis=0).astype(np.float64)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),
        "support": support,
        "predicted": predicted,
    }


def count_scores(confusion: np.ndarray) -> dict[str, float]:
    """The scores that a confusion matrix int64 [C, C] decides.

    accuracy, balanced_accuracy (mean recall of the classes with true pictures), and precision,
    recall and f1, macro (mean over classes seen in truth or prediction) and weighted by support.
    """
    by_class = class_scores(confusion)
    support, predicted = by_class["support"], by_class["predicted"]
    seen = (support > 0) | (predicted > 0)
    total = support.sum()
    scores = {
        "accuracy": float(np.diag(confusion).sum() / total),
        "balanced_accuracy": float(by_class["recall"][support > 0].mean()),
    }
    for name in ("precision", "recall", "f1"):
        scores[f"{name}_macro"] = float(by_class[name][seen].mean())
        scores[f"{name}_weighted"] = float((by_class[name] * support).sum() / total)
    return scores


def top_k_accuracy(predictions: Predictions, k: int) -> float:
    """Share of pictures whose class is among the k highest scores.

    Ties are broken as scikit-learn's top_k_accuracy_score does: of equal scores the higher class
    index counts as higher. k must be below the number of classes.
    """
    logits, labels = predictions.logits, predictions.labels
    own = logits[np.arange(len(labels)), labels][:, None]
    later = np.arange(logits.shape[1]) > labels[:, None]
    above = ((logits > own) | ((logits == own) & later)).sum(axis=1)
    return float((above < k).mean())


def validation_metrics(predictions: Predictions) -> dict[str, float | None]:
    """The `val_` columns of `history.csv`; a top-k with k >= classes is None."""
    num_classes = predictions.logits.shape[1]
    confusion = confusion_counts(predictions.labels, predictions.predicted, num_classes)
    scores = count_scores(confusion)
    metrics: dict[str, float | None] = {
        "val_loss": float(predictions.picture_losses.mean()),
        "val_accuracy": scores["accuracy"],
        "val_balanced_accuracy": scores["balanced_accuracy"],
        "val_precision_macro": scores["precision_macro"],
        "val_recall_macro": scores["recall_macro"],
        "val_macro_f1": scores["f1_macro"],
        "val_precision_weighted": scores["precision_weighted"],
        "val_recall_weighted": scores["recall_weighted"],
        "val_f1_weighted": scores["f1_weighted"],
    }
    for k in (3, 5):
        metrics[f"val_top_{k}_accuracy"] = (
            top_k_accuracy(predictions, k) if k < num_classes else None
        )
    return metrics


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    quotient: np.ndarray = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return quotient
