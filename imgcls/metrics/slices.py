"""The same metrics for parts of the pictures: by site, by camera, by group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from imgcls.errors import DataError
from imgcls.metrics.intervals import resampled_intervals
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.registry import all_metrics
from imgcls.metrics.resampling import Resampler, Units
from imgcls.metrics.tally import Tally
from imgcls.results.evaluation import Slice

MOST_INTERVALS = 100


def slice_metrics(
    predictions: Predictions,
    values: Sequence[str],
    *,
    samples: int,
    seed: int,
    groups: Units | None = None,
    folds: np.ndarray | None = None,
) -> tuple[Slice, ...]:
    """A row for each value [N], most pictures first: value, samples, metrics, intervals.

    Intervals are bootstrapped within the slice, over groups where there are any, and with folds
    [N] as those of the whole; a slice of one picture or group has none, nor have those behind the
    MOST_INTERVALS largest, nor any with 0 samples.
    """
    names, places, counts = np.unique(
        np.asarray(values, dtype=str), return_inverse=True, return_counts=True
    )
    sliced = [metric for metric in all_metrics(()) if metric.sliced]
    rows = []
    for place, index in enumerate(np.argsort(-counts, kind="stable")):
        mine = np.flatnonzero(places == index)
        part = predictions.outcomes.of(mine)
        tally = Tally(part, sliced)
        whole = tally.metrics(np.ones((1, len(mine))))
        own_groups = None if groups is None else np.asarray(groups, dtype=object)[mine]
        own_folds = None if folds is None else folds[mine]
        draws = partial(Resampler, part.labels, samples, seed, own_groups, own_folds)
        rows.append(
            Slice(
                value=str(names[index]),
                samples=len(mine),
                metrics={
                    m.name: m.from_outcomes(part) if m.from_outcomes else float(whole[m.name][0])
                    for m in sliced
                },
                intervals=_intervals(tally, draws) if samples and place < MOST_INTERVALS else {},
            )
        )
    return tuple(rows)


def _intervals(tally: Tally, resampler: Callable[[], Resampler]) -> dict[str, tuple[float, float]]:
    try:
        return resampled_intervals(tally.metrics, resampler())
    except DataError:
        return {}
