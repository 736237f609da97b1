"""Prediction sets: worked examples, MAPIE's thresholds, and what must hold for any data."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.classification import SplitConformalClassifier
from random_predictions import some_predictions
from sklearn.base import BaseEstimator, ClassifierMixin

from imgcls.errors import ConfigError, DataError
from imgcls.metrics.conformal import conformal_quantile, fewest_units, fit_sets


def fitted(probabilities, labels, coverage, prevalence=None, units=None):
    classes = probabilities.shape[1]
    return fit_sets(
        probabilities[np.arange(len(labels)), labels],
        labels,
        probabilities.argmax(axis=1),
        np.full(classes, 1 / classes) if prevalence is None else prevalence,
        coverage,
        units=units,
    )


def covered(sets, probabilities, labels):
    return sets.members(probabilities)[np.arange(len(labels)), labels]


@pytest.mark.parametrize(
    ("level", "fewest"), [(0.5, 1), (0.75, 3), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99)]
)
def test_a_finite_threshold_needs_so_many(level, fewest):
    """ceil((n + 1) level) <= n, and one picture fewer has none."""
    assert fewest_units(level) == fewest
    scores = np.arange(fewest, dtype=float)
    assert conformal_quantile(scores, level) == fewest - 1
    assert conformal_quantile(scores[1:], level) == math.inf


def test_the_quantile_of_a_worked_example():
    """Of 19 at 0.9 the 18th lowest, of 20 the 19th; equal scores keep their places."""
    assert conformal_quantile(np.arange(19, 0, -1.0), 0.9) == 18
    assert conformal_quantile(np.arange(1, 21.0), 0.9) == 19
    assert conformal_quantile(np.array([2.0, 1, 2, 2]), 0.5) == 2


def test_pictures_of_a_group_count_as_one():
    """Three groups at 0.5 need a weight of 2: 1 of the single one, and all halves of a pair."""
    scores = np.array([1.0, 2, 5, 3, 9])
    units = np.array([7, 3, 3, 4, 4])
    # 1 counts 1, then 2, 3, 5, 9 count 1/2 each
    assert conformal_quantile(scores, 0.5, units) == 3
    assert conformal_quantile(scores, 0.75, units) == 9
    assert conformal_quantile(scores, 0.8, units) == math.inf
    assert conformal_quantile(scores, 0.5, np.arange(5)) == conformal_quantile(scores, 0.5)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 60), st.sampled_from([0.5, 0.8, 0.9, 0.95]), st.integers(0, 2**31))
def test_as_many_of_n_plus_one_lie_at_or_below_as_asked(count, level, seed):
    """Each of n + 1 exchangeable scores in turn the new one: the guarantee itself, with ties."""
    scores = np.random.default_rng(seed).integers(0, 20, count + 1).astype(float)
    inside = [
        scores[i] <= conformal_quantile(np.delete(scores, i), level) for i in range(count + 1)
    ]
    assert np.mean(inside) >= level - 1e-12


class Scores(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose probabilities are its input."""

    def fit(self, x, y):
        self.classes_ = np.arange(x.shape[1])
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict_proba(self, x):
        return x

    def predict(self, x):
        return x.argmax(axis=1)


@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset has less labels")
@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_sets_of_balanced_classes_are_mapies(coverage):
    """Least ambiguous sets, where no class has a threshold of its own and the likeliest is wrong.

    Each picture's likeliest class is one that is never right, which the sets hold besides.
    """
    labels = np.arange(59) % 13
    logits = np.random.default_rng(0).normal(size=(59, 14))
    logits[np.arange(59), labels] += 1
    logits[:, 13] = 9
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    calibrate, rest = slice(0, 39), slice(39, None)
    ours = fitted(probabilities[calibrate], labels[calibrate], coverage)
    assert not ours.own.any()
    theirs = SplitConformalClassifier(
        Scores().fit(probabilities, None), confidence_level=coverage, conformity_score="lac"
    ).conformalize(probabilities[calibrate], labels[calibrate])
    _, sets = theirs.predict_set(probabilities[rest])
    members = ours.members(probabilities[rest])
    assert members[:, 13].all()
    assert 0.1 < members[:, :13].mean() < 0.9
    np.testing.assert_array_equal(members[:, :13], sets[:, :13, 0])


def test_thresholds_of_a_worked_example():
    """Four tenths of the way from all pictures' to the class's, if laxer; the few share one."""
    labels = np.repeat([0, 1, 2], [9, 9, 3])
    own = np.concatenate(
        [np.linspace(0.41, 0.49, 9), np.linspace(0.11, 0.19, 9), [0.3, 0.31, 0.32]]
    )
    wrong = (labels + 1) % 3
    sets = fit_sets(own, labels, wrong, np.array([0.5, 0.25, 0.25]), 0.75)
    # p / prevalence: 0.82..0.98 in steps of 0.02, 0.44..0.76 in steps of 0.04, and 1.2, 1.24, 1.28
    # of 21 the 17th highest is 0.60; of 9 the 8th highest are 0.84 and 0.48; of 3 the 3rd is 1.2
    assert sets.thresholds == pytest.approx([0.6, 0.6 - 0.4 * 0.12, 0.6])
    assert sets.own.tolist() == [True, True, True]
    assert (sets.pictures, sets.units) == (21, 21)
    higher = fit_sets(own, labels, wrong, np.array([0.5, 0.25, 0.25]), 0.9)
    assert higher.own.tolist() == [True, True, False]
    members = sets.members(np.array([[0.29, 0.15, 0.14], [0.31, 0.13, 0.56]], np.float32))
    assert members.tolist() == [[True, True, False], [True, False, True]]


def test_where_the_model_is_right_often_enough_sets_are_its_answers():
    """A right picture needs no threshold: 95 of 100 right ones leave nothing to add at 90%."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 100)
    probabilities = np.full((100, 4), 0.02)
    probabilities[np.arange(100), labels] = 0.94
    assert (
        fitted(probabilities, labels, 0.9).members(probabilities).sum(axis=1).tolist() == [1] * 100
    )
    labels[:5] = (labels[:5] + 1) % 4
    few = fitted(probabilities, labels, 0.9)
    # those that were wrong have the lowest score there is, which is as strict as none
    assert (few.thresholds <= 0.02 * 4).all()
    many = fitted(
        np.where(probabilities < 0.1, probabilities * rng.random((100, 4)), 0.94), labels, 0.9
    )
    assert many.members(probabilities).sum() >= 100


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 8), st.sampled_from([0.7, 0.9]), st.booleans())
def test_sets_hold_those_of_plain_conformal_prediction(seed, classes, coverage, grouped):
    """No threshold is stricter than the one for all pictures, and no set is empty."""
    rng = np.random.default_rng(seed)
    p = some_predictions(80, classes, seed=seed, skill=1.5)
    units = rng.integers(0, 30, 80) if grouped else None
    prevalence = rng.dirichlet(np.ones(classes)) + 1e-3
    sets = fitted(p.probabilities, p.labels, coverage, prevalence, units)
    ratio = p.probabilities[np.arange(80), p.labels] / prevalence[p.labels]
    scores = np.where(p.correct, -np.inf, -ratio)
    plain = conformal_quantile(scores, coverage, units)
    members = sets.members(p.probabilities)
    assert members[np.arange(80), p.predicted].all()
    assert (members | ~(p.probabilities / prevalence >= -plain)).all()
    counts = np.bincount(p.labels, minlength=classes)
    if not grouped:
        np.testing.assert_array_equal(sets.own, counts >= fewest_units(coverage))


def test_sets_do_not_depend_on_the_order_of_the_pictures():
    """Nor on how groups are numbered."""
    rng = np.random.default_rng(3)
    p = some_predictions(120, 5, skill=1.0)
    units = rng.integers(0, 50, 120)
    order = rng.permutation(120)
    one = fitted(p.probabilities, p.labels, 0.8, units=units)
    other = fitted(p.probabilities[order], p.labels[order], 0.8, units=1000 - 7 * units[order])
    np.testing.assert_array_equal(one.thresholds, other.thresholds)
    np.testing.assert_array_equal(one.own, other.own)


@pytest.mark.parametrize("grouped", [False, True])
def test_new_pictures_are_covered(grouped):
    """400 draws of 40 calibration pictures and a new one: 90% within three standard errors.

    Groups of 1 to 8 pictures of one class whose scores are alike: a new one is of a new group.
    """
    rng = np.random.default_rng(0)
    prior = np.array([0.6, 0.25, 0.1, 0.05])
    hits = []
    for _ in range(400):
        sizes = rng.integers(1, 9, 41) if grouped else np.ones(41, int)
        units = np.repeat(np.arange(41), sizes)
        labels = rng.choice(4, 41, p=prior)[units]
        shared, noise = rng.normal(size=(41, 4))[units], rng.normal(size=(len(units), 4))
        logits = shared + (0.2 if grouped else 0) * noise + np.log(prior)
        logits[np.arange(len(units)), labels] += 1.0
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        new = int(np.flatnonzero(units == 40)[0])
        old = units < 40
        sets = fitted(probabilities[old], labels[old], 0.9, prior, units[old] if grouped else None)
        hits.append(covered(sets, probabilities[new:], labels[new:])[0])
    assert np.mean(hits) > 0.9 - 3 * math.sqrt(0.09 / 400)


def test_too_few_pictures_say_how_many_are_needed():
    """Also where they are many of few groups."""
    p = some_predictions(40, 3)
    with pytest.raises(DataError, match=r"sets at 0\.99 need 99 pictures .* there are 40"):
        fitted(p.probabilities, p.labels, 0.99)
    with pytest.raises(DataError, match=r"need 9 independent groups .* there are 8"):
        fitted(p.probabilities, p.labels, 0.9, units=np.arange(40) % 8)
    assert fitted(p.probabilities, p.labels, 0.9).own.all()
    # of nine groups no class has nine to itself
    labels = np.arange(40) % 9 % 3
    assert not fitted(p.probabilities, labels, 0.9, units=np.arange(40) % 9).own.any()


def test_one_class_needs_no_thought():
    """Its sets are that class."""
    sets = fitted(np.ones((12, 1), np.float32), np.zeros(12, np.int64), 0.9)
    assert sets.members(np.ones((3, 1), np.float32)).all()


def test_what_does_not_fit_is_refused():
    """Each with its reason."""
    p = some_predictions(20, 3)
    own, labels, predicted = p.label_probabilities, p.labels, p.predicted
    prevalence = np.full(3, 1 / 3)
    with pytest.raises(ConfigError, match=r"coverage 1\.5"):
        fit_sets(own, labels, predicted, prevalence, 1.5)
    with pytest.raises(DataError, match=r"\[19, 20\] pictures"):
        fit_sets(own[1:], labels, predicted, prevalence, 0.9)
    with pytest.raises(DataError, match="do not fit 2 classes"):
        fit_sets(own, labels, predicted, prevalence[:2], 0.9)
    with pytest.raises(DataError, match="class 1 has no prevalence"):
        fit_sets(own, labels, predicted, np.array([0.5, 0, 0.5]), 0.9)
    with pytest.raises(DataError, match=r"shape \(20, 2\)"):
        fitted(p.probabilities, labels, 0.9).members(p.probabilities[:, :2])
