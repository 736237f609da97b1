"""How fast: latencies and throughput from the times of batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def speed_metrics(
    batch_times_s: Sequence[float], batch_sizes: Sequence[int], device: str
) -> dict[str, Any]:
    """The `speed_metrics` of `test_metrics.json`.

    Throughput is samples over total time, and the average its inverse; std, min, max and median
    run over batches, each batch's time divided by its size.
    """
    times_s = np.asarray(batch_times_s, dtype=np.float64)
    sizes = np.asarray(batch_sizes, dtype=np.float64)
    per_sample_ms = times_s / sizes * 1e3
    total_s, samples = float(times_s.sum()), int(sizes.sum())
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
