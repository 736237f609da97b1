"""The threshold of --max-error: worked examples, SciPy's bound, and its promise in simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from imgcls.errors import ConfigError, DataError
from imgcls.metrics.selective import (
    error_bound,
    fewest_answers,
    fit_answer_threshold,
    one_of_each,
)


@pytest.mark.parametrize(
    ("max_error", "level", "fewest"), [(0.05, 0.95, 59), (0.01, 0.95, 299), (0.1, 0.9, 22)]
)
def test_so_many_right_answers_vouch_for_an_error(max_error, level, fewest):
    """(1 - max_error)^n <= 1 - level; with as many in val all are answered, with one fewer none."""
    assert fewest_answers(max_error, level) == fewest
    for count, answered in ((fewest, 1.0), (fewest - 1, 0.0)):
        found = fit_answer_threshold(
            np.full(count, 0.9, np.float32), np.ones(count, bool), max_error, confidence_level=level
        )
        assert found.answered == answered
        assert (found.upper <= max_error) == bool(answered)
        assert found.threshold == (0.0 if answered else math.inf)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.9, 0.95, 0.995]))
def test_the_bound_is_clopper_and_pearsons(answered, share, level):
    """SciPy's exact interval for "less", and the binomial tail that defines it."""
    errors = round(share * answered)
    bound = float(error_bound(np.array(errors), np.array(answered), level))
    theirs = binomtest(errors, answered, alternative="less").proportion_ci(level, "exact")
    assert bound == pytest.approx(theirs.high, abs=1e-9)
    if errors < answered:
        assert binom.cdf(errors, answered, bound) == pytest.approx(1 - level, rel=1e-6)


def test_a_worked_example():
    """400 sure ones that are right, then 200 of which half are wrong: the line lies between."""
    confidences = np.sort(np.random.default_rng(0).random(600).astype(np.float32))[::-1]
    correct = (np.arange(600) < 400) | (np.arange(600) % 2 == 1)
    found = fit_answer_threshold(confidences, correct, 0.05)
    answered = confidences >= found.threshold
    # of 600, 545, 496, 451, 410 ... the first with few enough wrong
    assert answered.sum() == round(600 / 1.1**4) == 410
    assert found.answered == pytest.approx(410 / 600)
    assert found.errors == 5 == (~correct[answered]).sum()
    assert confidences[410] < found.threshold <= confidences[409]
    # each of the 18 candidates that could pass, were all right, has an 18th of the 5%
    candidates = [round(600 / 1.1**k) for k in range(18)]
    assert candidates[-1] == 119 >= fewest_answers(0.05, 1 - 0.05 / 18)
    assert round(600 / 1.1**18) < fewest_answers(0.05, 1 - 0.05 / 19)
    assert found.upper == pytest.approx(float(error_bound(5, 410, 1 - 0.05 / 18)))


def test_pictures_of_equal_confidence_are_answered_together():
    """Softmax is 1.0 for many: a threshold cannot tell them apart."""
    confidences = np.repeat(np.array([1.0, 0.6, 0.5], np.float32), [150, 60, 90])
    correct = np.concatenate([np.ones(150, bool), np.zeros(60, bool), np.ones(90, bool)])
    found = fit_answer_threshold(confidences, correct, 0.05)
    assert (confidences >= found.threshold).sum() == 150
    assert (found.errors, found.answered) == (0, 0.5)
    assert 0.6 < found.threshold <= 1.0


def test_without_a_promise_the_best_bound_is_told():
    """Nothing is answered; `upper` says what could be asked for instead."""
    found = fit_answer_threshold(
        np.linspace(0.5, 1, 100, dtype=np.float32), np.arange(100) % 4 > 0, 0.05
    )
    assert (found.threshold, found.answered, found.errors) == (math.inf, 0.0, 0)
    assert 0.25 < found.upper < 0.4
    again = fit_answer_threshold(
        np.linspace(0.5, 1, 100, dtype=np.float32), np.arange(100) % 4 > 0, 0.4
    )
    assert again.answered == 1.0
    few = fit_answer_threshold(np.ones(20, np.float32), np.ones(20, bool), 0.05)
    assert (few.threshold, few.upper) == (math.inf, 1.0)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 400), st.sampled_from([0.05, 0.2, 0.5]), st.booleans())
def test_what_is_said_is_what_the_threshold_does(seed, count, max_error, tied):
    """Counts by the threshold itself; an answered share keeps its bound; order does not matter."""
    rng = np.random.default_rng(seed)
    confidences = rng.random(count).astype(np.float32)
    if tied:
        confidences = np.round(confidences, 1)
    correct = rng.random(count) < 0.7 + 0.3 * confidences
    found = fit_answer_threshold(confidences, correct, max_error)
    answered = confidences >= found.threshold
    assert found.answered == answered.mean()
    assert found.errors == (~correct[answered]).sum()
    assert (found.upper <= max_error) == bool(answered.any())
    order = rng.permutation(count)
    assert fit_answer_threshold(confidences[order], correct[order], max_error) == found


def test_one_picture_of_each_group_counts():
    """Nine copies of each picture vouch for no more than one."""
    confidences = np.linspace(0.6, 1, 70, dtype=np.float32)
    correct = np.arange(70) > 2
    alone = fit_answer_threshold(confidences, correct, 0.1)
    copies = np.repeat(np.arange(70), 9)
    grouped = fit_answer_threshold(confidences[copies], correct[copies], 0.1, units=copies)
    assert (grouped.units, grouped.pictures, alone.units) == (70, 630, 70)
    assert (grouped.threshold, grouped.upper) == (alone.threshold, alone.upper)
    naive = fit_answer_threshold(confidences[copies], correct[copies], 0.1)
    assert naive.upper < grouped.upper or naive.answered > grouped.answered


def test_the_picture_of_a_group_is_drawn_alike_each_time():
    """One of each, of every place in the group."""
    units = np.repeat(np.arange(500), 3)[np.random.default_rng(1).permutation(1500)]
    chosen = one_of_each(units)
    np.testing.assert_array_equal(chosen, one_of_each(units))
    assert sorted(units[chosen]) == list(range(500))
    first = np.unique(units, return_index=True)[1]
    assert 0.2 < np.isin(chosen, first).mean() < 0.47


@pytest.mark.parametrize("kind", ["rising", "useless", "reversed"])
def test_the_promise_is_broken_seldom(kind):
    """500 draws of 300 pictures: more than 10% errors among the answered in at most 5% of them.

    Also where confidence says nothing, or the contrary of the truth: errors just above 10%.
    """
    rng = np.random.default_rng(0)
    broken = answered = 0
    risk = {
        "rising": lambda u: 0.6 * (1 - u) ** 3,  # of u or more: 0.15 (1 - u)^3
        "useless": lambda u: np.full_like(u, 0.101),
        "reversed": lambda u: 0.3 * u,  # of u or more: 0.15 (1 + u)
    }[kind]
    for _ in range(500):
        confidences = rng.random(300).astype(np.float32)
        correct = rng.random(300) >= risk(confidences)
        found = fit_answer_threshold(confidences, correct, 0.1)
        if not found.answered:
            continue
        answered += 1
        grid = np.linspace(found.threshold, 1, 1000)
        broken += risk(grid).mean() > 0.1
    assert broken <= 0.05 * 500
    assert kind != "rising" or answered > 250


def test_what_does_not_fit_is_refused():
    """Each with its reason."""
    ones, right = np.ones(4, np.float32), np.ones(4, bool)
    with pytest.raises(ConfigError, match="max_error 0 "):
        fit_answer_threshold(ones, right, 0)
    with pytest.raises(ConfigError, match="confidence_level 1 "):
        fit_answer_threshold(ones, right, 0.1, confidence_level=1)
    with pytest.raises(DataError, match=r"\[3, 4\] pictures"):
        fit_answer_threshold(ones[1:], right, 0.1)
    with pytest.raises(DataError, match="no pictures"):
        fit_answer_threshold(ones[:0], right[:0], 0.1)
    with pytest.raises(DataError, match="not finite"):
        fit_answer_threshold(ones * np.nan, right, 0.1)
