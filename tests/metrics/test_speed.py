"""Throughput and latency from the times of batches."""

from __future__ import annotations

import numpy as np
import pytest

from imgcls.metrics.speed import (
    block_medians_ms,
    drift,
    has_settled,
    latency_percentiles,
    speed_metrics,
    speed_ratio,
    speed_verdict,
)


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


def test_throughput_of_a_stream_is_over_its_own_time():
    """On a GPU the batches that nobody waits for; latencies stay those of single batches."""
    speed = speed_metrics([0.2, 0.2], [10, 10], "cuda:0", total_s=0.1)
    assert speed["throughput_samples_per_sec"] == pytest.approx(200.0)
    assert speed["median_time_per_sample_ms"] == pytest.approx(20.0)


def test_warm_up_ends_when_the_median_stays():
    """Two groups of five that agree within 5%; one slow batch does not matter."""
    assert not has_settled([1.0] * 9)
    assert not has_settled([2.0] * 5 + [1.0] * 5)
    assert has_settled([9.0] * 5 + [1.0, 1.0, 7.0, 1.0, 1.0] + [1.04] * 5)


def test_drift_is_last_third_against_first():
    """By medians, so that a hiccup is no drift."""
    assert drift([1.0, 1.0, 50.0, 1.0, 1.0, 1.0, 1.2, 1.2, 1.2]) == pytest.approx(0.2)
    assert drift([1.0, 9.0]) == 0.0


def test_blocks_are_consecutive_tenths():
    """Median of each, in ms; as many blocks as batches where these are fewer."""
    assert block_medians_ms(np.arange(40) / 1e3) == pytest.approx(np.arange(10) * 4 + 1.5)
    assert block_medians_ms([0.001, 0.003]) == (1.0, 3.0)


def test_the_speed_ratio_has_welchs_interval():
    """Against the textbook's formula, by hand, on the logarithms."""
    from scipy.stats import t

    before, now = np.array([10.0, 11.0, 12.0, 10.5]), np.array([8.0, 8.5, 7.9])
    a, b = np.log(before), np.log(now)
    parts = np.array([a.var(ddof=1) / 4, b.var(ddof=1) / 3])
    freedom = parts.sum() ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
    reach = t.ppf(0.975, freedom) * np.sqrt(parts.sum())
    shift = a.mean() - b.mean()
    expected = np.exp([shift, shift - reach, shift + reach])
    assert speed_ratio(before, now) == pytest.approx(tuple(expected))
    assert speed_verdict(*speed_ratio(before, now)) == "faster"
    assert speed_verdict(*speed_ratio(now, before)) == "slower"


@pytest.mark.parametrize(
    ("before", "now"),
    [([10.0, 10.0], [10.1, 10.1]), ([10.0], [20.0]), ([8.0, 12.0, 10.0], [9.0, 13.0, 11.0])],
)
def test_small_and_uncertain_changes_are_noise(before, now):
    """Under 3%, from a single block, or with an interval around 1."""
    assert speed_verdict(*speed_ratio(before, now)) == "within the noise"
