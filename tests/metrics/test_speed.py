"""Throughput and latency from the times of batches."""

from __future__ import annotations

import numpy as np
import pytest

from imgcls.metrics.speed import latency_percentiles, speed_metrics


def test_speed_is_samples_over_total_time():
    """Throughput is not the mean of ratios; the spread is over batches, each by its size."""
    speed = speed_metrics([0.1, 0.3, 0.1], [10, 10, 5], "cpu")
    assert speed == {
        "samples_tested": 25,
        "avg_time_per_sample_ms": pytest.approx(20.0),
        "std_time_per_sample_ms": pytest.approx(np.std([10.0, 30.0, 20.0])),
        "min_time_per_sample_ms": pytest.approx(10.0),
        "max_time_per_sample_ms": pytest.approx(30.0),
        "median_time_per_sample_ms": pytest.approx(20.0),
        "throughput_samples_per_sec": pytest.approx(50.0),
        "device": "cpu",
    }


def test_latency_is_per_batch_in_milliseconds():
    """p50, p90 and p99 of the batches' times."""
    times_s = np.linspace(0.0, 0.1, 101)
    assert latency_percentiles(times_s) == pytest.approx({"p50": 50.0, "p90": 90.0, "p99": 99.0})
