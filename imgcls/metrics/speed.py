"""Latency percentiles and throughput from the times of batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

_GROUP = 5
_SETTLED_SPREAD = 0.05
_BLOCKS = 10
# separate runs of the same thing differ by this much on a calm machine
_LEAST_CHANGE = 0.03


def speed_metrics(
    batch_times_s: Sequence[float],
    batch_sizes: Sequence[int],
    device: str,
    *,
    total_s: float | None = None,
) -> dict[str, Any]:
    """The `speed_metrics` of `test_metrics.json`.

    Throughput is samples over total time, and the average its inverse; std, min, max and median
    run over batches, each batch's time divided by its size. total_s: the time of all batches when
    none is waited for; their sum when not given.
    """
    times_s = np.asarray(batch_times_s, dtype=np.float64)
    sizes = np.asarray(batch_sizes, dtype=np.float64)
    per_sample_ms = times_s / sizes * 1e3
    samples = int(sizes.sum())
    total_s = float(times_s.sum()) if total_s is None else total_s
    return {
        "samples_tested": samples,
        "avg_time_per_sample_ms": total_s / samples * 1e3,
        "std_time_per_sample_ms": float(per_sample_ms.std()),
        "min_time_per_sample_ms": float(per_sample_ms.min()),
        "max_time_per_sample_ms": float(per_sample_ms.max()),
        "median_time_per_sample_ms": float(np.median(per_sample_ms)),
        "throughput_samples_per_sec": samples / total_s,
        "device": device,
    }


def latency_percentiles(batch_times_s: Sequence[float]) -> dict[str, float]:
    """Percentiles of the batches' times: {"p50", "p90", "p99"} in ms."""
    p50, p90, p99 = np.percentile(np.asarray(batch_times_s) * 1e3, (50, 90, 99))
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99)}


def has_settled(times_s: Sequence[float]) -> bool:
    """True when the medians of the last two groups of five batches agree within 5%."""
    if len(times_s) < 2 * _GROUP:
        return False
    earlier, later = np.median(np.split(np.asarray(times_s[-2 * _GROUP :]), 2), axis=1)
    return bool(abs(earlier - later) <= _SETTLED_SPREAD * later)


def drift(batch_times_s: Sequence[float]) -> float:
    """The last third's median time over the first third's, less one; 0 for fewer than six."""
    third = len(batch_times_s) // 3
    if third < 2:  # noqa: PLR2004  a single batch says nothing about a trend
        return 0.0
    first, last = np.median(batch_times_s[:third]), np.median(batch_times_s[-third:])
    return float(last / first - 1)


def block_medians_ms(batch_times_s: Sequence[float]) -> tuple[float, ...]:
    """The medians of ten consecutive blocks of batches, fewer where there are fewer batches.

    Neighbouring batches are alike, blocks nearly independent (the method of batch means).
    """
    blocks = np.array_split(np.asarray(batch_times_s) * 1e3, min(_BLOCKS, len(batch_times_s)))
    return tuple(float(np.median(block)) for block in blocks)


def speed_ratio(
    before_block_ms: Sequence[float], now_block_ms: Sequence[float]
) -> tuple[float, float, float]:
    """(speed now over speed before, low, high): the geometric mean's ratio, its 95% interval.

    Welch's interval for the difference of two means, of the logarithms of the blocks' times. One
    block alone has no spread, and its interval is everything.
    """
    from scipy.stats import ttest_ind

    before, now = np.log(before_block_ms), np.log(now_block_ms)
    shift = float(before.mean() - now.mean())
    if min(len(before), len(now)) < 2:  # noqa: PLR2004
        return math.exp(shift), 0.0, math.inf
    if before.std() == now.std() == 0.0:
        return math.exp(shift), math.exp(shift), math.exp(shift)
    interval = ttest_ind(before, now, equal_var=False).confidence_interval(0.95)
    return math.exp(shift), math.exp(interval.low), math.exp(interval.high)


def speed_verdict(ratio: float, low: float, high: float) -> str:
    """The change in words: more than noise when its interval leaves 1 out and it is 3% or more."""
    if low <= 1.0 <= high or abs(ratio - 1.0) < _LEAST_CHANGE:
        return "within the noise"
    return "faster" if ratio > 1.0 else "slower"
