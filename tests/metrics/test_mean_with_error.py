"""Means over pictures and over classes, with their standard errors."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from imgcls.metrics.comparison import class_mean_with_error, mean_with_error
from imgcls.metrics.resampling import Resampler


def test_of_independent_pictures_it_is_the_usual_error():
    """The standard deviation over the square root of their number."""
    values = np.random.default_rng(0).normal(3.0, 2.0, 50)
    found = mean_with_error(values)
    assert found.value == pytest.approx(values.mean())
    assert found.error == pytest.approx(values.std(ddof=1) / 50**0.5)


def test_copies_within_a_group_tell_nothing_new():
    """Four views of each plant have the error of one view each."""
    values = np.random.default_rng(1).normal(size=30)
    units = np.repeat(np.arange(30), 4)
    found = mean_with_error(np.repeat(values, 4), units)
    assert found.error == pytest.approx(mean_with_error(values).error)


def test_one_group_has_no_error():
    """Nobody knows how the next one would be."""
    assert np.isnan(mean_with_error(np.ones(5), np.zeros(5, np.int64)).error)


@pytest.mark.parametrize("grouped", [False, True])
def test_of_correctness_the_class_mean_is_the_balanced_accuracy(grouped):
    """As scikit-learn has it; the error is that of bootstrap resamples."""
    rng = np.random.default_rng(2)
    labels = rng.choice(3, 400, p=(0.6, 0.3, 0.1))
    units = np.arange(400) // 4 if grouped else np.arange(400)
    labels = labels[units * 4] if grouped else labels
    right = rng.random(400) < np.where(grouped, 0.5 + 0.4 * (units % 2), 0.8)
    found = class_mean_with_error(right.astype(float), labels, units)
    said = np.where(right, labels, (labels + 1) % 3)
    assert found.value == pytest.approx(balanced_accuracy_score(labels, said))
    groups = [str(unit) for unit in units] if grouped else None
    drawn = np.concatenate(list(Resampler(labels, 4000, 0, groups).weights()))
    of_class = [labels == c for c in range(3)]
    scores = np.mean([drawn[:, c] @ right[c] / drawn[:, c].sum(axis=1) for c in of_class], axis=0)
    assert found.error == pytest.approx(scores.std(), rel=0.12)
