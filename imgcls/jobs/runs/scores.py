"""The number that a run is listed with: its test metric, or what chose its best epoch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from imgcls.jobs.runs.reading import Fold, RunSettings, part_of, read_quickly
from imgcls.metrics.registry import VALIDATION
from imgcls.results.runs import RunScore

_OF = {column.name: column.of for column in VALIDATION}
_METRICS, _PAGE, _SUMMARY = "/test_metrics.json", "/report.html", "summary.json"
# which of several evaluated splits stands for a run; others by their names
_FIRST = ("test", "val")


def score_of(
    run: str, names: AbstractSet[str], settings: RunSettings, folds: Mapping[int, Fold]
) -> tuple[RunScore | None, str | None]:
    """The run's score, and the page of the evaluated split, by its path in the run.

    By the metric that the run chose its best epoch by: of its evaluation on test, else of its folds
    together, else of another evaluated split, else of its best epoch on val.
    """
    metric = _OF.get(settings.monitor, settings.monitor)
    several = len(settings.folds) > 1
    place = "test_results/" if several else f"fold_{settings.folds[0]}/test_results/"
    splits = {
        name[len(place) : -len(_METRICS)]
        for name in names
        if name.endswith(_METRICS) and name.startswith(place)
    }
    pages = sorted(
        (name for name in names if name.endswith(_PAGE) and "test_results/" in name),
        key=lambda name: (not name.startswith(f"{place}test/"), not name.startswith(place), name),
    )
    page = pages[0] if pages else None
    order = sorted(splits, key=lambda s: (_FIRST.index(s) if s in _FIRST else len(_FIRST), s))
    if several and _SUMMARY in names and "test" not in splits:
        found = _over_folds(f"{run}/{_SUMMARY}", metric, folds)
        if found is not None:
            return found, page
    for split in order:
        found = _evaluated(f"{run}/{place}{split}{_METRICS}", metric, split, settings, folds)
        if found is not None:
            return found, page
    return _trained(settings, folds, metric), page


def _evaluated(
    file: str, metric: str, split: str, settings: RunSettings, folds: Mapping[int, Fold]
) -> RunScore | None:
    try:
        text = read_quickly(file)
        value = _number(part_of(text, "metrics", metric))
        pictures = int(part_of(text, "metrics", "samples"))
        checkpoint = str(part_of(text, "checkpoint"))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if value is None:
        return None
    return RunScore(
        metric=metric,
        value=value,
        interval=_interval(text, "intervals", metric),
        split=split,
        pictures=pictures,
        evaluated=True,
        of_best=_is_of_best(text, checkpoint, settings, folds),
    )


def _is_of_best(
    text: str, checkpoint: str, settings: RunSettings, folds: Mapping[int, Fold]
) -> bool:
    """Whether an evaluation is of the checkpoints that are the best now, as far as it says."""
    if len(settings.folds) == 1:
        fold = folds.get(settings.folds[0])
        return is_best_now(checkpoint, None if fold is None else fold.best_name)
    try:
        rows = part_of(text, "cross_validation", "per_fold")
    except ValueError:
        return True
    return are_best_epochs_now(rows, _best_epochs(folds))


def _best_epochs(folds: Mapping[int, Fold]) -> dict[int, int]:
    return {number: fold.best["epoch"] for number, fold in folds.items() if fold.best is not None}


def is_best_now(scored: str, best: str | None) -> bool:
    """Whether the checkpoint at the path `scored` is the one whose name is `best`.

    True also where none is known to be the best.
    """
    # of a path of another system too
    return best is None or re.split(r"[/\\]", scored)[-1] in (best, "best")


def are_best_epochs_now(per_fold: Any, best: Mapping[int, int]) -> bool:
    """Whether folds were scored together at the epochs that are the best now, by fold.

    per_fold: the rows that an evaluation of folds has; what they do not say counts for nothing.
    """
    try:
        scored = {row["fold"]: row["best_epoch"] for row in per_fold}
    except (LookupError, TypeError):
        return True
    return all(scored.get(fold) in (None, epoch) for fold, epoch in best.items())


def _over_folds(summary: str, metric: str, folds: Mapping[int, Fold]) -> RunScore | None:
    """The pooled pictures of the folds, each scored by the fold that has not seen it."""
    try:
        text = read_quickly(summary)
        value = _number(part_of(text, "pooled", metric))
        pictures = int(part_of(text, "pooled", "samples"))
        mean, std = (_number(part_of(text, name, metric)) for name in ("mean", "std"))
        rows = part_of(text, "per_fold")
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if value is None:
        return None
    interval = _interval(text, "pooled_intervals", metric)
    of_best = are_best_epochs_now(rows, _best_epochs(folds))
    return RunScore(metric, value, interval, "val", pictures, True, of_best, mean, std)


def _trained(settings: RunSettings, folds: Mapping[int, Fold], metric: str) -> RunScore | None:
    """What the best epochs scored on val in training; of several folds the mean."""
    best = [fold.best for fold in folds.values() if fold.best is not None]
    values = [_number((facts.get("metrics") or {}).get(settings.monitor)) for facts in best]
    known = [value for value in values if value is not None]
    if not known:
        return None
    import statistics

    return RunScore(
        metric=metric,
        value=statistics.fmean(known),
        interval=None,
        split="val",
        pictures=sum(facts.get("val_pictures") or 0 for facts in best),
        evaluated=False,
        mean=statistics.fmean(known) if len(known) > 1 else None,
        std=statistics.stdev(known) if len(known) > 1 else None,
    )


def _interval(text: str, *names: str) -> tuple[float, float] | None:
    """Two numbers of a document; None where there are none."""
    try:
        low, high = map(_number, part_of(text, *names))
    except (ValueError, TypeError):
        return None
    return None if low is None or high is None else (low, high)


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if is_number else None
