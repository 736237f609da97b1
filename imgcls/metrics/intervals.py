"""Confidence intervals of metrics, by bootstrap over pictures or groups and over folds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from imgcls.errors import ConfigError
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.registry import all_metrics, get_metric
from imgcls.metrics.resampling import Resampler, Units
from imgcls.metrics.tally import RankTally, Tally

Interval = tuple[float, float]

_ROUNDING = 1e-12
# a few seconds on one core
MOST_RANK_CELLS = 1_000_000_000
# RankTally holds all scores: so few resamples allow no more pictures x classes than these
_FEWEST_SAMPLES = 50


def bootstrap_intervals(
    predictions: Predictions,
    samples: int = 1000,
    seed: int = 0,
    groups: Units | None = None,
    confidence: float = 0.95,
    *,
    folds: np.ndarray | None = None,
    top_k: Sequence[int] = (),
) -> dict[str, Interval]:
    """(low, high) of every metric that is from counts or a mean over the pictures.

    Also of ROC AUC and average precision while pictures x classes x samples stay
    within MOST_RANK_CELLS. Calibration errors have none: a resample's is biased upwards.

    Percentile bootstrap (Efron and Tibshirani, 1993) of `samples` resamples. Without groups
    pictures are drawn anew within each class, so every resample has the split's class counts; with
    groups [N] (patient, site) whole groups are drawn, within those of the same most frequent
    class, and a picture whose group is blank alone. folds: int64 [N], where the model of each fold
    scored its own pictures; see `resampled_intervals`. Pictures that are all right, or a class of
    one picture, show no spread: the interval is then too narrow, and where there is none at all it
    is left out. The same seed gives the same intervals. A metric that some resample leaves
    undefined has no interval.

    Raises ConfigError for samples < 1 or a confidence outside 0..1, DataError for groups that do
    not fit or when there are fewer than two pictures or groups to draw from.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence {confidence} is not between 0 and 1; 0.95 is usual")
    resampler = Resampler(predictions.labels, samples, seed, groups, folds)
    ranks = RankTally(predictions) if ranks_affordable(predictions, samples) else None
    metrics = all_metrics(top_k, num_classes=predictions.logits.shape[1])
    tally = Tally(predictions.outcomes, metrics, ranks)
    return resampled_intervals(tally.metrics, resampler, confidence)


def resampled_intervals(
    statistics: Callable[[np.ndarray], dict[str, np.ndarray]],
    resampler: Resampler,
    confidence: float = 0.95,
    limits: Callable[[str], Interval] | None = None,
) -> dict[str, Interval]:
    """The percentile interval of each statistic; none where one cannot be given.

    statistics: gives float64 [R] by name for the weights [R, N] of R resamples. limits: the lowest
    and highest value that each can have; as a metric of `test_metrics.json` where left out.

    An interval that does not hold the statistic itself is not given: there the bootstrap is biased,
    as it is for average precision where classes have two or three pictures, which are drawn twice.

    Pictures scored by several folds' models vary by the models, too, which no resample of pictures
    shows. The variance over the folds is estimated by leaving one out at a time (delete-a-group
    jackknife: Kott, "The Delete-a-Group Jackknife", 2001). What it has beyond that of the resamples
    is the models'. It counts 1 + K / (K - 1) times, because the K models share training pictures
    (Nadeau and Bengio, "Inference for the Generalization Error", 2003: 1/K + 1/(K - 1) in place of
    1/K), and the interval is stretched about the statistic by the root of the sum over the
    resamples' variance, and from the normal quantile to Student's t with the degrees of freedom of
    Satterthwaite (1946) for K - 1 of the models' part.
    """
    parts = [statistics(weights) for weights in resampler.weights()]
    drawn = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    found = {name: percentile_interval(values, confidence) for name, values in drawn.items()}
    intervals = {name: interval for name, interval in found.items() if interval is not None}
    whole = {name: float(values[0]) for name, values in statistics(resampler.whole()).items()}
    intervals = {n: i for n, i in intervals.items() if _holds(i, whole[n])}
    if resampler.folds > 1:
        without = statistics(resampler.fold_left_out())
        for name, (low, high) in list(intervals.items()):
            value = whole[name]
            stretch = _fold_stretch(without[name], float(drawn[name].var()), confidence)
            if not math.isfinite(stretch):
                del intervals[name]  # undefined without one of the folds
                continue
            lower, higher = value - stretch * (value - low), value + stretch * (high - value)
            intervals[name] = min(low, lower), max(high, higher)
    return {
        name: (max(low, lowest), min(high, highest))
        for name, (low, high) in intervals.items()
        for lowest, highest in [(limits or _limits)(name)]
    }


def _holds(interval: Interval, value: float) -> bool:
    low, high = interval
    rounding = _ROUNDING * max(abs(low), abs(high))
    return low - rounding <= value <= high + rounding


def _fold_stretch(without: np.ndarray, variance: float, confidence: float) -> float:
    """How much wider an interval gets by the spread between K models; 1 without any.

    without: float64 [K], the statistic with one fold left out. variance: of the resamples.
    """
    from scipy.stats import norm, t

    folds = len(without)
    by_folds = (folds - 1) / folds * float(((without - without.mean()) ** 2).sum())
    by_models = (1 + folds / (folds - 1)) * max(by_folds - variance, 0.0)
    if by_models == 0:
        return 1.0
    total = variance + by_models
    freedom = (folds - 1) * (total / by_models) ** 2
    tail = (1 + confidence) / 2
    return float(np.sqrt(total / variance) * t.ppf(tail, freedom) / norm.ppf(tail))


def percentile_interval(values: np.ndarray, confidence: float = 0.95) -> Interval | None:
    """The middle `confidence` of resampled values [R].

    None where one of them is undefined, or all are the same: that is no sign of certainty.
    """
    # sums of the same pictures in another order differ by their rounding
    if not np.isfinite(values).all() or np.ptp(values) <= _ROUNDING * np.abs(values).max():
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, (tail, 1 - tail))
    return float(low), float(high)


def fold_interval(
    values: Sequence[float],
    confidence: float = 0.95,
    *,
    limits: Interval = (-math.inf, math.inf),
) -> Interval:
    """The interval of a mean over the K >= 2 folds of a cross-validation.

    limits: the lowest and the highest value that there is; the interval is cut to them.

    Student's t with the variance corrected for the training pictures that folds share, 1/K +
    1/(K - 1) in place of 1/K: Nadeau and Bengio, "Inference for the Generalization Error" (2003).
    """
    from scipy.stats import t

    folds = len(values)
    mean, std = float(np.mean(values)), float(np.std(values, ddof=1))
    reach = (
        float(t.ppf((1 + confidence) / 2, folds - 1)) * std * (1 / folds + 1 / (folds - 1)) ** 0.5
    )
    return max(mean - reach, limits[0]), min(mean + reach, limits[1])


def _limits(name: str) -> Interval:
    return get_metric(name).limits


def ranks_affordable(predictions: Predictions, samples: int) -> bool:
    """True when ROC AUC and average precision get intervals, too."""
    count, classes = predictions.logits.shape
    return bool(classes > 1 and count * classes * max(samples, _FEWEST_SAMPLES) <= MOST_RANK_CELLS)
