"""Titles and number formats of metrics, for the screen and pages alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from imgcls.output.numbers import percent, score

_WORDS = {"f1": "F1", "roc": "ROC", "auc": "AUC", "ece": "ECE"}
_TITLES = {
    "cohen_kappa": "Cohen's kappa",
    "mcc": "Matthews correlation",
    "nll": "NLL (log loss)",
    "brier": "Brier score",
    "ece": "Calibration error",
    "ece_equal_mass": "Calibration error (equal mass)",
    "classwise_ece": "Calibration error (classwise)",
    "samples": "Pictures",
    "num_classes": "Classes",
}
_AVERAGES = ("macro", "micro", "weighted")


def metric_title(name: str) -> str:
    """The name of a metric or column as it reads: `roc_auc_macro` is "ROC AUC (macro)"."""
    if name in _TITLES:
        return _TITLES[name]
    *stem, last = name.split("_")
    average = f" ({last})" if stem and last in _AVERAGES else ""
    text = " ".join(_WORDS.get(word, word) for word in (stem if average else [*stem, last]))
    return text[:1].upper() + text[1:] + average


def metric_writer(name: str, pictures: int) -> Callable[[float | None], str]:
    """Writes the metric of so many pictures, its intervals and differences."""
    return partial(percent, pictures=pictures) if is_share(name) else score


def is_share(name: str) -> bool:
    """Whether it reads in percent: accuracies, precision, recall, F1, calibration errors."""
    return (
        name.endswith("accuracy")
        or name.startswith(("precision", "recall", "f1"))
        or "ece" in name.split("_")
    )
