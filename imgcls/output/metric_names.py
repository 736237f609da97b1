"""Titles and number formats of metrics, for the screen and pages alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from imgcls.metrics.registry import find_metric
from imgcls.output.numbers import percent, score

_WORDS = {"f1": "F1", "roc": "ROC", "auc": "AUC", "ece": "ECE"}
_TITLES = {"samples": "Pictures", "num_classes": "Classes"}
_AVERAGES = ("macro", "micro", "weighted")


def metric_title(name: str) -> str:
    """The name of a metric or column as it reads: `roc_auc_macro` is "ROC AUC (macro)"."""
    metric = find_metric(name)
    given = _TITLES.get(name) if metric is None else metric.title
    if given:
        return given
    *stem, last = name.split("_")
    average = f" ({last})" if stem and last in _AVERAGES else ""
    text = " ".join(_WORDS.get(word, word) for word in (stem if average else [*stem, last]))
    return text[:1].upper() + text[1:] + average


def metric_writer(name: str, pictures: int) -> Callable[[float | None], str]:
    """Writes the metric of so many pictures, its intervals and differences."""
    return partial(percent, pictures=pictures) if is_share(name) else score


def headline_names(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of an evaluation's metrics that stand first, in their order."""
    # of k classes or fewer the top k always hold the right one
    classes = metrics["num_classes"]
    found = map(find_metric, metrics)
    shown = [m for m in found if m and m.headline and classes > m.more_classes_than]
    return tuple(metric.name for metric in sorted(shown, key=lambda metric: metric.headline))


def is_share(name: str) -> bool:
    """Whether the metric reads in percent, as the share of pictures that it is."""
    metric = find_metric(name)
    return metric is not None and metric.share
