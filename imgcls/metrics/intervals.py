"""How far a metric could lie from its value by the luck of which pictures were in the split."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from imgcls.errors import ConfigError
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.resampled_ranks import RankTally
from imgcls.metrics.resampling import Resampler, Tally, Units

Interval = tuple[float, float]

_ROUNDING = 1e-12
# of what is no share of 0 to 1
_RANGES: dict[str, Interval] = {
    "cohen_kappa": (-1.0, 1.0),
    "mcc": (-1.0, 1.0),
    "nll": (0.0, math.inf),
    "brier": (0.0, 2.0),
}
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
    strata: np.ndarray | None = None,
    top_k: Sequence[int] = (),
) -> dict[str, Interval]:
    """(low, high) of accuracy, balanced_accuracy, precision, recall, F1, kappa, MCC, NLL, Brier.

    Also of `top_k`, and of ROC AUC and average precision while pictures x classes x samples stay
    within MOST_RANK_CELLS. Calibration errors have none: a resample's is biased upwards.

    Percentile bootstrap (Efron and Tibshirani, 1993) of `samples` resamples. Without groups
    pictures are drawn anew within each class, so every resample has the split's class counts; with
    groups [N] (patient, site) whole groups are drawn, within those of the same most frequent
    class. strata [N] (fold): each keeps its class counts. Pictures that are all right, or a class
    of one picture, show no spread: the interval is then too narrow, and where there is none at all
    it is left out. The same seed gives the same intervals. A metric that some resample leaves
    undefined has no interval.

    Raises ConfigError for samples < 1 or a confidence outside 0..1, DataError for groups that do
    not fit or when there are fewer than two pictures or groups to draw from.
    """
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence {confidence} is not between 0 and 1; 0.95 is usual")
    resampler = Resampler(predictions.labels, samples, seed, groups, strata)
    ranks = RankTally(predictions) if ranks_affordable(predictions, samples) else None
    below = [k for k in top_k if k < predictions.logits.shape[1]]
    tally = Tally(predictions.facts, below, ranks)
    parts = [tally.metrics(weights) for weights in resampler.weights()]
    intervals = {
        name: percentile_interval(np.concatenate([part[name] for part in parts]), confidence)
        for name in parts[0]
    }
    return {name: interval for name, interval in intervals.items() if interval is not None}


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


def metric_range(name: str) -> Interval:
    """The lowest and highest value that a metric of `test_metrics.json` can have."""
    return _RANGES.get(name, (0.0, 1.0))


def ranks_affordable(predictions: Predictions, samples: int) -> bool:
    """True when ROC AUC and average precision get intervals, too."""
    count, classes = predictions.logits.shape
    return bool(classes > 1 and count * classes * max(samples, _FEWEST_SAMPLES) <= MOST_RANK_CELLS)
