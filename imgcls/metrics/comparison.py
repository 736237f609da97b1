"""Two models on the same pictures: paired differences with intervals, and McNemar's test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from imgcls.metrics.intervals import percentile_interval
from imgcls.metrics.predictions import PictureOutcomes
from imgcls.metrics.registry import all_metrics
from imgcls.metrics.resampling import Resampler
from imgcls.metrics.tally import Tally
from imgcls.results.comparison import Difference, Estimate, McNemar


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


def paired_accuracy(
    one: PictureOutcomes, other: PictureOutcomes, resampler: Resampler | None = None
) -> Difference:
    """The accuracy of two models on the same pictures, and the 95% interval of the difference.

    Tango's score interval ("Equivalence test and confidence interval for the difference in
    proportions for the paired-sample design", 1998), which has a width also where the two agree
    on every picture. resampler: of groups, whose pictures are not independent: the interval is
    then at least as wide as that of its resamples.
    """
    this, against = float(one.correct.mean()), float(other.correct.mean())
    low, high = _score_interval(
        int((one.correct & ~other.correct).sum()),
        int((~one.correct & other.correct).sum()),
        len(one.labels),
    )
    if resampler is not None:
        gains = one.correct.astype(np.float64) - other.correct
        drawn = np.concatenate([w @ gains / w.sum(axis=1) for w in resampler.weights()])
        found = percentile_interval(drawn) or (low, high)
        low, high = min(low, found[0]), max(high, found[1])
    return Difference(this, against, this - against, (low, high))


def _score_interval(only_one: int, only_other: int, pictures: int) -> tuple[float, float]:
    """The differences of two paired shares that the score test does not reject at 5%."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    limit = float(norm.ppf(0.975))

    def score(difference: float) -> float:
        # the likeliest share of pictures that only the other has, under this difference
        b = (2 * pictures - only_one + only_other) * difference - only_one - only_other
        c = -only_other * difference * (1 - difference)
        share = ((b * b - 8 * pictures * c) ** 0.5 - b) / (4 * pictures)
        variance = pictures * (2 * share + difference * (1 - difference))
        gap = only_one - only_other - pictures * difference
        return float(gap / max(variance, 1e-300) ** 0.5)

    found = (only_one - only_other) / pictures
    ends = []
    for end, sign in ((-1.0, 1.0), (1.0, -1.0)):
        inside = end * (1 - 1e-12)
        far = abs(score(inside)) > limit and abs(found - inside) > 1e-9  # noqa: PLR2004
        ends.append(brentq(lambda d, s=sign: score(d) - s * limit, inside, found) if far else end)
    return ends[0], ends[1]


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


def mean_with_error(values: np.ndarray, units: np.ndarray | None = None) -> Estimate:
    """The mean of what each picture has, and its standard error.

    values: float64 [N]. units: int64 [N], the same number for pictures of one group, which are not
    independent (the sandwich estimate for clusters of Liang and Zeger, 1986). The error of a single
    unit is nan.
    """
    units = np.arange(len(values)) if units is None else units
    mean = float(values.mean())
    sums = np.bincount(units, (values - mean) / len(values))
    count = len(np.unique(units))
    spread = count / (count - 1) if count > 1 else math.nan
    return Estimate(mean, math.sqrt(spread * float(sums @ sums)))


def class_mean_with_error(
    values: np.ndarray, labels: np.ndarray, units: np.ndarray | None = None
) -> Estimate:
    """The mean over classes of the mean of what their pictures have, and its standard error.

    labels: int64 [N]; the rest as `mean_with_error`. Of picture by picture correctness it is the
    balanced accuracy.
    """
    counts = np.bincount(labels)
    shares = 1.0 / (counts[labels] * np.count_nonzero(counts))
    means = np.bincount(labels, values) / np.maximum(counts, 1)
    around = mean_with_error((values - means[labels]) * shares * len(values), units)
    return Estimate(float(shares @ values), around.error)
