"""The same metrics for parts of the pictures: by site, by camera, by group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgcls.errors import DataError
from imgcls.metrics.calibration import expected_calibration_error, reliability_bins
from imgcls.metrics.intervals import percentile_interval
from imgcls.metrics.predictions import PictureFacts, Predictions
from imgcls.metrics.resampling import Resampler, Tally, Units

MOST_INTERVALS = 100
SLICED = ("accuracy", "balanced_accuracy", "f1_macro", "nll")


def slice_metrics(
    predictions: Predictions,
    values: Sequence[str],
    *,
    samples: int,
    seed: int,
    groups: Units | None = None,
) -> list[dict[str, Any]]:
    """A row for each value [N], most pictures first: value, samples, metrics, intervals.

    Intervals are bootstrapped within the slice, over groups where there are any; a slice of one
    picture or group has none, nor have those behind the MOST_INTERVALS largest, nor any with 0
    samples.
    """
    names, places, counts = np.unique(
        np.asarray(values, dtype=str), return_inverse=True, return_counts=True
    )
    rows = []
    for place, index in enumerate(np.argsort(-counts, kind="stable")):
        mine = np.flatnonzero(places == index)
        part = predictions.facts.of(mine)
        tally = Tally(part)
        whole = tally.metrics(np.ones((1, len(mine))))
        own_groups = None if groups is None else np.asarray(groups)[mine]
        rows.append(
            {
                "value": str(names[index]),
                "samples": len(mine),
                "metrics": {
                    **{name: float(whole[name][0]) for name in SLICED},
                    "ece": expected_calibration_error(reliability_bins(part)),
                },
                "intervals": _intervals(tally, part, samples, seed, own_groups)
                if place < MOST_INTERVALS
                else {},
            }
        )
    return rows


def _intervals(
    tally: Tally, part: PictureFacts, samples: int, seed: int, groups: Units | None
) -> dict[str, tuple[float, float]]:
    if not samples:
        return {}
    try:
        drawn = [tally.metrics(w) for w in Resampler(part.labels, samples, seed, groups).weights()]
    except DataError:
        return {}
    found = {n: percentile_interval(np.concatenate([d[n] for d in drawn])) for n in SLICED}
    return {name: interval for name, interval in found.items() if interval is not None}
