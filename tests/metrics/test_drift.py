"""Shares that differ, and the intervals that say so."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from imgcls.metrics.drift import clopper_pearson, shifts


@pytest.mark.parametrize(("successes", "trials"), [(0, 9), (9, 9), (3, 9), (170, 1234)])
def test_the_interval_is_scipys(successes, trials):
    """The exact one, at both ends and beyond."""
    for level in (0.95, 0.9995):
        exact = binomtest(successes, trials).proportion_ci(level, "exact")
        low, high = clopper_pearson(np.array([successes]), trials, level)
        assert (low[0], high[0]) == pytest.approx((exact.low, exact.high))


def test_pictures_that_are_spread_alike_seldom_differ():
    """With 100 classes in at most 5% of cases, and pictures that are not, are told."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(100))
    wrong = 0
    for _ in range(200):
        before = rng.multinomial(300, shares)
        counts = rng.multinomial(5000, shares)
        wrong += bool(shifts(counts, 5000, before / 300, 300))
    assert wrong <= 10
    other = np.roll(shares, 1)
    found = shifts(rng.multinomial(5000, other), 5000, before / 300, 300)
    assert found
    sizes = [abs(one.share - one.before) for one in found]
    assert sizes == sorted(sizes, reverse=True)


def test_few_independent_pictures_are_no_witnesses():
    """Of 300 pictures in three groups, shares may be any."""
    before, counts = np.array([1.0, 0.0]), np.array([700, 300])
    assert len(shifts(counts, 1000, before, 300)) == 2
    assert shifts(counts, 1000, before, 3) == ()
    assert shifts(np.array([0, 0]), 0, before, 300) == ()
