"""The difference of two models' accuracies on the same pictures, with its interval."""

from __future__ import annotations

import numpy as np
import pytest

from imgcls.metrics.comparison import paired_accuracy
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.resampling import Resampler


def outcomes(correct):
    """Of pictures of class 0 that are right where `correct` says so."""
    correct = np.asarray(correct)
    keys = tuple(map(str, range(len(correct))))
    logits = np.stack([correct, ~correct], axis=1).astype(np.float32)
    return Predictions(keys, logits, np.zeros(len(correct), np.int64)).outcomes


@pytest.mark.parametrize("pictures", [5, 20, 500])
def test_models_that_agree_everywhere_are_not_surely_equal(pictures):
    """z^2 / (n + z^2) either way, which is the score interval's closed form there."""
    same = outcomes(np.arange(pictures) % 2 == 0)
    found = paired_accuracy(same, same)
    assert found.difference == 0
    reach = 1.959964**2 / (pictures + 1.959964**2)
    assert found.interval == pytest.approx((-reach, reach), rel=1e-5)


def test_the_interval_is_that_of_a_crossover_trial():
    """n = 30, 12 against 2: limits found by a grid search over the score test's definition."""
    one = np.array([True] * 12 + [False] * 2 + [True] * 10 + [False] * 6)
    other = np.array([False] * 12 + [True] * 2 + [True] * 10 + [False] * 6)
    found = paired_accuracy(outcomes(one), outcomes(other))

    def rejected(difference):
        # the multinomial's likeliest share of the one discordant cell under this difference
        shares = np.linspace(max(0, -difference), 1 - max(0, difference), 400_001)[1:-1]
        shares = shares[(shares + difference > 0) & (2 * shares + difference < 1)]
        likelihood = (
            12 * np.log(shares + difference)
            + 2 * np.log(shares)
            + 16 * np.log(1 - 2 * shares - difference)
        )
        share = shares[likelihood.argmax()]
        variance = 30 * (2 * share + difference - difference**2)
        return (10 - 30 * difference) ** 2 > 1.959964**2 * variance

    low, high = found.interval
    assert found.difference == pytest.approx(1 / 3)
    assert [rejected(low - 0.002), rejected(low + 0.002)] == [True, False]
    assert [rejected(high - 0.002), rejected(high + 0.002)] == [False, True]


def test_all_pictures_lost_is_the_farthest_there_is():
    """Every picture right by one and wrong by the other."""
    found = paired_accuracy(outcomes([True] * 8), outcomes([False] * 8))
    assert found.interval[1] == pytest.approx(1)
    assert 0.3 < found.interval[0] < 1


def test_the_interval_covers_as_often_as_it_says():
    """At least 93% of 1,000 draws of 60 pictures where one loses 5 points, and not nearly all."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(1000):
        cell = rng.choice(4, 60, p=(0.03, 0.08, 0.7, 0.19))
        low, high = paired_accuracy(
            outcomes((cell == 0) | (cell == 2)), outcomes((cell == 1) | (cell == 2))
        ).interval
        held.append(low <= -0.05 <= high)
    assert 0.93 < np.mean(held) < 0.985


def test_pictures_of_a_group_count_as_fewer():
    """Ten groups that change as wholes: wider than 100 pictures that change each by itself."""
    other = np.ones(100, bool)
    one = np.repeat(np.arange(10) != 3, 10)
    groups = np.repeat([f"g{n}" for n in range(10)], 10)
    alone = paired_accuracy(outcomes(one), outcomes(other)).interval
    resampler = Resampler(np.zeros(100, np.int64), 1000, 0, groups)
    low, high = paired_accuracy(outcomes(one), outcomes(other), resampler).interval
    assert low < alone[0] - 0.05
    assert high >= alone[1]
