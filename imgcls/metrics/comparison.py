"""Two models on the same pictures: paired differences with intervals, and McNemar's test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgcls.metrics.intervals import percentile_interval
from imgcls.metrics.predictions import PictureOutcomes
from imgcls.metrics.registry import all_metrics
from imgcls.metrics.resampling import Resampler
from imgcls.metrics.tally import Tally
from imgcls.results.comparison import Difference, McNemar


def paired_differences(
    one: PictureOutcomes, others: Sequence[PictureOutcomes], resampler: Resampler | None
) -> dict[str, Difference]:
    """By metric: this, other (the mean of the others), difference, and its 95% interval.

    All outcomes are of the same pictures in the same order, and every resample of them scores
    all models, so that what is hard for both cancels out (paired percentile bootstrap). The
    interval is None without a resampler, and where it cannot be given.
    """
    metrics = [metric for metric in all_metrics(()) if metric.compared]
    names = [metric.name for metric in metrics]
    tallies = [Tally(outcomes, metrics) for outcomes in (one, *others)]
    whole = _scores(tallies, names, np.ones((1, len(one.labels))))
    drawn = (
        None
        if resampler is None
        else np.concatenate([_scores(tallies, names, w) for w in resampler.weights()], axis=-1)
    )
    rows = {}
    for index, name in enumerate(names):
        this, other = (float(whole[side, index, 0]) for side in (0, 1))
        interval = None if drawn is None else percentile_interval(drawn[0, index] - drawn[1, index])
        rows[name] = Difference(this, other, this - other, interval)
    return rows


def _scores(tallies: Sequence[Tally], names: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """The metrics of the first and of the mean of the others: float64 [2, metrics, R]."""
    scores = [
        np.stack([found[name] for name in names])
        for found in (tally.metrics(weights) for tally in tallies)
    ]
    return np.stack([scores[0], np.mean(scores[1:], axis=0)])


def mcnemar(one: PictureOutcomes, other: PictureOutcomes) -> McNemar:
    """How many pictures only one of the two has right, and the exact two-sided p-value.

    McNemar, "Note on the sampling error of the difference between correlated proportions" (1947),
    with the binomial distribution in place of chi-square, which few pictures do not follow.
    """
    from scipy.stats import binomtest

    only_this = int((one.correct & ~other.correct).sum())
    only_other = int((~one.correct & other.correct).sum())
    changed = only_this + only_other
    p_value = binomtest(only_this, changed).pvalue if changed else 1.0
    return McNemar(only_this, only_other, float(p_value))
