"""Distances from the training pictures: scikit-learn's covariance, pytorch-ood, worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_ood.detector import Mahalanobis
from sklearn.covariance import LedoitWolf

from imgcls.errors import ConfigError, DataError
from imgcls.metrics import predictions
from imgcls.metrics.novelty import (
    fit_statistics,
    held_out_class_detection,
    novelty_threshold,
)


def clouds(count, classes, size, *, seed=0, spread=0.3):
    """Features about a mean for each class: float32 [count, size], and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    means = np.random.default_rng(99).normal(size=(classes, size))
    scales = rng.uniform(0.2, 2.0, size)
    features = means[labels] + spread * scales * rng.normal(size=(count, size))
    return features.astype(np.float32), labels


def unit(features):
    features = np.asarray(features, np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(2, 30), st.integers(6, 60))
def test_distances_are_those_of_scikit_learns_covariance(seed, classes, size, count):
    """LedoitWolf of what is left of the class means, also for fewer pictures than features."""
    features, labels = clouds(count, classes, size, seed=seed)
    other, _ = clouds(25, classes, size, seed=seed + 1, spread=1.0)
    means = np.stack([unit(features)[labels == c].mean(axis=0) for c in range(classes)])
    fit = LedoitWolf(assume_centered=True).fit(unit(features) - means[labels])
    gaps = unit(other)[:, None] - means
    squares = np.einsum("ncd,de,nce->nc", gaps, np.linalg.inv(fit.covariance_), gaps)
    found = fit_statistics(features, labels, classes)
    assert found.means == pytest.approx(means)
    np.testing.assert_allclose(
        found.distances(other), np.sqrt(squares.min(axis=1)), rtol=1e-6, atol=1e-9
    )


def test_distances_are_pytorch_oods():
    """Half the squared distance with the sum, not the mean, of squares: 2 / N of ours.

    Of many pictures, where next to nothing is shrunk.
    """
    features, labels = clouds(20_000, 4, 6)
    other, _ = clouds(50, 4, 6, seed=5, spread=1.0)
    detector = Mahalanobis(None).fit_features(
        torch.from_numpy(unit(features)), torch.from_numpy(labels)
    )
    theirs = detector.predict_features(torch.from_numpy(unit(other)).float()).numpy()
    ours = fit_statistics(features, labels, 4).distances(other)
    np.testing.assert_allclose(ours**2, 2 * len(features) * theirs, rtol=0.01)


def test_a_worked_example():
    """Directions at right angles; length does not matter; one far off is far from both means."""
    features = np.array([[3, 0.3], [1, -0.1], [0.2, 2], [-0.4, 4]], np.float32)
    statistics = fit_statistics(features, np.array([0, 0, 2, 2]), 4)
    side = 0.1 / math.sqrt(1.01)
    np.testing.assert_allclose(statistics.means[0], [1 / math.sqrt(1.01), 0], atol=1e-7)
    np.testing.assert_allclose(statistics.means[2], [0, 1 / math.sqrt(1.01)], atol=1e-7)
    assert np.isnan(statistics.means[[1, 3]]).all()
    # residuals are (0, +-side) and (+-side, 0): the covariance is side^2 / 2 in both directions
    far = np.array([[-1, 0], [1, 0], [7, 0]], np.float32)
    expected = np.array(
        [
            math.hypot(1, 1 / math.sqrt(1.01)),
            1 - 1 / math.sqrt(1.01),
            1 - 1 / math.sqrt(1.01),
        ]
    ) / math.sqrt(side**2 / 2)
    assert statistics.distances(far) == pytest.approx(expected, rel=1e-5)


def test_blocks_of_rows_change_nothing(monkeypatch):
    """A set that does not fit into memory goes by parts."""
    features, labels = clouds(200, 3, 8)
    whole = fit_statistics(features, labels, 3)
    distances = whole.distances(features)
    monkeypatch.setattr(predictions, "CELLS_PER_BLOCK", 60)
    parts = fit_statistics(features, labels, 3)
    np.testing.assert_allclose(parts.whitening, whole.whitening, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(parts.distances(features), distances, rtol=1e-9)


def test_features_of_zero_and_single_pictures_are_no_trouble():
    """A row of zeros has no direction; a class of one picture has a mean and no spread."""
    features, labels = clouds(30, 3, 5)
    features[4] = 0
    labels[labels == 2] = 1
    labels[29] = 2
    statistics = fit_statistics(features, labels, 3)
    assert np.isfinite(statistics.distances(np.zeros((1, 5), np.float32))).all()
    assert statistics.distances(features[29:])[0] == pytest.approx(0, abs=1e-5)


def test_two_pictures_are_enough_and_one_is_not():
    """There must be a spread to measure with."""
    features, _ = clouds(2, 1, 6)
    assert np.isfinite(fit_statistics(features, np.zeros(2, int), 1).distances(features)).all()
    with pytest.raises(DataError, match="two different pictures of a class"):
        fit_statistics(features, np.arange(2), 2)


def test_the_threshold_leaves_at_most_the_rate():
    """Of 99 val pictures at 5% the 95th nearest; of 18 there is none."""
    distances = np.random.default_rng(0).permutation(np.arange(1.0, 100))
    assert novelty_threshold(distances, 0.05) == 95
    assert (distances > novelty_threshold(distances, 0.05)).mean() <= 0.05
    assert novelty_threshold(distances[:18], 0.05) == math.inf
    assert novelty_threshold(distances[:19], 0.05) == distances[:19].max()
    assert novelty_threshold(distances, 0.05, np.arange(99) % 18) == math.inf
    for rate in (0, 1, -0.1):
        with pytest.raises(ConfigError, match="false alarms"):
            novelty_threshold(distances, rate)


@pytest.mark.parametrize("grouped", [False, True])
def test_a_class_left_out_is_scored_as_if_fitted_without_it(grouped):
    """What is taken off the sums is what a fit without the class gives, class by class.

    Class 4 was never trained on, so its val pictures are none of the known ones.
    """
    train, labels = clouds(160, 4, 10, spread=0.8)
    val, val_labels = clouds(900, 5, 10, seed=1, spread=0.8)
    train[labels == 0] *= 1 + np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)
    units = np.arange(900) // 2 if grouped else None
    found = held_out_class_detection(train, labels, val, val_labels, 0.1, units=units)
    assert found.classes.tolist() == [0, 1, 2, 3]
    assert found.pictures.tolist() == [180] * 4
    for c in range(4):
        rest = labels != c
        statistics = fit_statistics(train[rest], labels[rest], 5)
        known = (val_labels != c) & (val_labels < 4)
        threshold = novelty_threshold(
            statistics.distances(val[known]), 0.1, None if units is None else units[known]
        )
        caught = np.mean(statistics.distances(val[val_labels == c]) > threshold)
        assert found.flagged[c] == caught
        assert 0.1 < caught < 0.9


def test_classes_that_cannot_be_left_out_are_not_there():
    """One class alone, a class without val pictures, too few val pictures of the others."""
    train, labels = clouds(60, 3, 6)
    val, val_labels = clouds(45, 3, 6, seed=1)
    only = held_out_class_detection(train, labels * 0, val, val_labels * 0, 0.1)
    assert len(only.classes) == len(only.flagged) == len(only.pictures) == 0
    some = val_labels != 1
    found = held_out_class_detection(train, labels, val[some], val_labels[some], 0.1)
    assert found.classes.tolist() == [0, 2]
    few = held_out_class_detection(train, labels, val[:12], val_labels[:12], 0.1)
    assert few.classes.tolist() == []
    drawn = held_out_class_detection(train, labels, val, val_labels, 0.1, most=2)
    again = held_out_class_detection(train, labels, val, val_labels, 0.1, most=2)
    assert len(drawn.classes) == 2
    assert drawn.classes.tolist() == again.classes.tolist()


def test_what_does_not_fit_is_refused():
    """Each with its reason."""
    features, labels = clouds(20, 2, 4)
    statistics = fit_statistics(features, labels, 2)
    broken = features.copy()
    broken[3, 2] = np.inf
    with pytest.raises(DataError, match="do not fit 4 "):
        statistics.distances(features[:, :3])
    for call in (statistics.distances, lambda f: fit_statistics(f, labels, 2)):
        with pytest.raises(DataError, match="not finite"):
            call(broken)
    with pytest.raises(DataError, match="labels of 19 pictures"):
        fit_statistics(features, labels[1:], 2)
    with pytest.raises(DataError, match="do not fit 1 classes"):
        fit_statistics(features, labels, 1)
