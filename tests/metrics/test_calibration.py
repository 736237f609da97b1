"""Calibration errors against plain loops and worked examples; the fitted temperature."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_predictions import predictions, some_predictions
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn import metrics as sk

from imgcls.errors import DataError
from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.calibration import (
    TEMPERATURE_LIMITS,
    classwise_calibration_error,
    expected_calibration_error,
    fit_temperature,
    limit_reached,
    reliability_bins,
)
from imgcls.metrics.predictions import Predictions


def from_probabilities(probabilities, labels):
    probabilities = np.asarray(probabilities)
    keys = tuple(map(str, range(len(labels))))
    return Predictions(keys, np.log(probabilities), np.array(labels))


def calibration_gap(scores, hits, bins):
    """The sum over (lower, upper] bins of share x |mean score - frequency|, by its definition."""
    total = 0.0
    for i in range(bins):
        inside = (scores > i / bins) & (scores <= (i + 1) / bins)
        if i == 0:
            inside |= scores == 0
        if inside.any():
            total += inside.mean() * abs(scores[inside].mean() - hits[inside].mean())
    return total


@settings(max_examples=100, deadline=None)
@given(predictions())
def test_calibration_errors_equal_their_definition(p):
    """Equal-width ECE and the classwise form, bin by bin."""
    confidences = p.confidences.astype(np.float64)
    assert expected_calibration_error(reliability_bins(p)) == pytest.approx(
        calibration_gap(confidences, p.correct, 15), abs=1e-12
    )
    by_class = [
        calibration_gap(p.probabilities[:, c].astype(np.float64), p.labels == c, 15)
        for c in range(p.logits.shape[1])
    ]
    assert classwise_calibration_error(p) == pytest.approx(np.mean(by_class), abs=1e-12)


def test_ece_of_a_worked_example():
    """Two bins of two: |0.65 - 0.5| and |0.95 - 1.0|, each with half of the pictures."""
    p = from_probabilities([[0.62, 0.38], [0.68, 0.32], [0.92, 0.08], [0.98, 0.02]], [0, 1, 0, 0])
    assert expected_calibration_error(reliability_bins(p, bins=5)) == pytest.approx(0.1, abs=1e-6)
    equal_mass = reliability_bins(p, bins=2, equal_mass=True)
    assert expected_calibration_error(equal_mass) == pytest.approx(0.1, abs=1e-6)
    assert equal_mass.counts.tolist() == [2, 2]
    assert equal_mass.lower == pytest.approx([0.62, 0.92])
    assert equal_mass.upper == pytest.approx([0.68, 0.98])
    assert equal_mass.accuracy.tolist() == [0.5, 1.0]


def test_equal_mass_bins_hold_equally_many_pictures():
    """Without ties the parts differ by at most one picture."""
    bins = reliability_bins(some_predictions(200, 5), equal_mass=True)
    assert len(bins.counts) == 15
    assert set(bins.counts.tolist()) <= {13, 14}
    assert bins.counts.sum() == 200
    assert np.all(np.diff(bins.confidence) > 0)


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_equal_mass_error_does_not_depend_on_the_order_of_pictures(p):
    """Pictures of equal confidence share a bin."""
    back = Predictions(p.keys[::-1], p.logits[::-1], p.labels[::-1])
    errors = [expected_calibration_error(reliability_bins(q, equal_mass=True)) for q in (p, back)]
    assert errors[0] == pytest.approx(errors[1], abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_brier_equals_its_definition(p):
    """Summed over all classes, for two classes as for seven."""
    one_hot = np.eye(p.logits.shape[1])[p.labels]
    by_hand = ((p.probabilities.astype(np.float64) - one_hot) ** 2).sum(axis=1)
    assert p.brier_scores == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_brier_equals_scikit_learn(classes):
    """scikit-learn's two-class form is half of it, and older versions have no other."""
    p = some_predictions(50, classes)
    if classes == 2:
        theirs = 2 * sk.brier_score_loss(p.labels, p.probabilities[:, 1].astype(np.float64))
    else:
        one_hot = np.eye(classes)[p.labels]
        columns = p.probabilities.astype(np.float64)
        theirs = sum(sk.brier_score_loss(one_hot[:, c], columns[:, c]) for c in range(classes))
    assert p.brier_scores.mean() == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("planted", [0.4, 1.0, 3.0])
def test_a_planted_temperature_is_found(planted):
    """Labels drawn from softmax(z), logits given as T z: the fit gives T back."""
    rng = np.random.default_rng(0)
    true_logits = 2 * rng.normal(size=(20_000, 5))
    draws = true_logits + rng.gumbel(size=true_logits.shape)  # argmax samples the softmax
    found = fit_temperature(planted * true_logits, draws.argmax(axis=1)).temperature
    assert found == pytest.approx(planted, rel=0.05)


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_a_temperature_never_raises_the_nll_it_was_fitted_on(p):
    """It lies within its limits, is at least as good as 1 and keeps the predicted class."""
    temperature = fit_temperature(p.logits, p.labels).temperature
    assert TEMPERATURE_LIMITS[0] <= temperature <= TEMPERATURE_LIMITS[1]
    before, after = (
        -log_softmax(p.logits / t, axis=1)[np.arange(len(p.labels)), p.labels].mean()
        for t in (np.float64(1), np.float64(temperature))
    )
    assert after <= before + 1e-9
    scaled = Predictions(p.keys, p.logits / np.float32(temperature), p.labels)
    assert np.array_equal(scaled.predicted, p.predicted)


def confident(count, right, seed=0):
    """Logits that are 88% sure on average, and labels of which so many are right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 3)).astype(np.float32)
    said = rng.integers(0, 3, count)
    logits[np.arange(count), said] += 4
    return logits, np.where(np.arange(count) < right, logits.argmax(axis=1), (said + 1) % 3)


def test_few_pictures_without_a_mistake_do_not_decide():
    """22 of 22 right ask for certainty; what is fitted leaves room for mistakes, and says so."""
    logits, labels = confident(22, 22)
    found = fit_temperature(logits, labels)
    assert 0.3 < found.temperature < 1
    assert "none of the 22 pictures is wrong" in found.reason
    confidence = Predictions(tuple(map(str, range(22))), logits, labels, found.temperature)
    assert confidence.picture_losses.max() > 1e-3
    # other pictures, of which a few are wrong: the fit of 22 has not made them hopeless
    logits, labels = confident(200, 180, seed=1)
    plain, mended = (
        Predictions(tuple(map(str, range(200))), logits, labels, t).picture_losses.mean()
        for t in (1.0, found.temperature)
    )
    assert mended < 1.6 * plain


def test_many_pictures_outweigh_the_prior():
    """The same shares in ever more pictures, to the temperature that they ask for alone."""
    once = confident(20, 17)
    found = [
        fit_temperature(np.tile(once[0], (times, 1)), np.tile(once[1], times)).temperature
        for times in (1, 10, 100)
    ]
    assert 1 < found[0] < found[1] < found[2]
    assert found[2] / found[1] < found[1] / found[0]


def test_a_temperature_that_does_not_help_others_is_none():
    """By pictures left out in turn; logits without any knowledge of the labels want none, too."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(30, 4))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    found = fit_temperature(logits, labels)
    with_it, without = found.held_out_nll
    assert with_it >= without
    assert found.temperature == 1.0
    assert "no temperature is better than none" in found.reason
    assert fit_temperature(np.zeros((3, 3)), np.arange(3)).temperature == 1.0
    assert "one picture alone" in fit_temperature(np.eye(3)[:1], np.array([0])).reason
    assert "one group alone" in fit_temperature(logits, labels, groups=["g"] * 30).reason


def test_fine_tuned_weights_are_taken_to_be_too_sure():
    """Few pictures move what is expected of them; many decide. T is the posterior's mode."""
    logits, labels = confident(40, 36)

    def minus_log_posterior(log_t):
        scores = log_softmax(logits.astype(np.float64) / np.exp(log_t), axis=1)
        return -scores[np.arange(40), labels].sum() + (log_t - 0.3) ** 2 / (2 * 0.2**2)

    mode = minimize_scalar(minus_log_posterior, bounds=(-1, 1), method="bounded").x
    found = fit_temperature(logits, labels, fine_tuned=True)
    assert found.temperature == pytest.approx(np.exp(mode), rel=1e-3)
    assert fit_temperature(logits, labels, fine_tuned=False).temperature < found.temperature
    # kept although it is no better on pictures left out
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(20_000, 4))
    drawn = (honest + rng.gumbel(size=honest.shape)).argmax(axis=1)
    few = fit_temperature(0.7 * honest[:60], drawn[:60], fine_tuned=True)
    assert few.held_out_nll[0] >= few.held_out_nll[1]
    assert few.temperature > 1.1
    many = fit_temperature(honest, drawn, fine_tuned=True)
    assert many.temperature == pytest.approx(1, abs=0.03)


def test_a_temperature_at_its_limit_says_so():
    """Whichever side; and those that earlier versions stored beyond it."""
    labels = np.tile(np.arange(3), 1000)
    for logits, limit in ((np.eye(3)[labels] * 0.1, 0.1), (np.eye(3)[(labels + 1) % 3] * 50, 10.0)):
        found = fit_temperature(logits, labels)
        assert found.temperature == pytest.approx(limit, rel=1e-3)
        assert f"limit of {limit:g}" in found.reason
    assert "limit of 0.1" in limit_reached(0.01)
    assert limit_reached(1.0) is None


def test_a_temperature_is_not_fitted_on_broken_scores():
    """NaN logits are refused."""
    with pytest.raises(DataError, match="not finite"):
        fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))


@settings(max_examples=100, deadline=None)
@given(predictions(), st.floats(0.01, 100))
def test_a_temperature_changes_probabilities_and_never_the_prediction(p, temperature):
    """Not even where rounding makes two probabilities equal; scikit-learn's loss agrees."""
    mended = Predictions(p.keys, p.logits, p.labels, temperature)
    assert np.array_equal(mended.predicted, p.predicted)
    assert np.array_equal(mended.label_ranks, p.label_ranks)
    scaled = log_softmax(p.logits.astype(np.float64) / temperature, axis=1)
    assert np.allclose(mended.probabilities, np.exp(scaled), atol=1e-6)
    assert mended.picture_losses == pytest.approx(-scaled[np.arange(len(p.labels)), p.labels])


def test_the_fitted_temperature_mends_planted_overconfidence():
    """Logits of the true probabilities times four: on other pictures NLL and ECE fall."""
    rng = np.random.default_rng(0)

    def planted(count, temperature=1.0):
        logits = rng.normal(size=(count, 6)).astype(np.float32)
        labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
        return Predictions(tuple(map(str, range(count))), 4 * logits, labels, temperature)

    val = planted(4000)
    temperature = fit_temperature(val.logits, val.labels).temperature
    assert temperature == pytest.approx(4, rel=0.1)
    test = planted(4000)
    mended = Predictions(test.keys, test.logits, test.labels, temperature)
    before, after = (MetricsCalculator("abcdef").compute(p).metrics for p in (test, mended))
    assert all(after[n] < before[n] for n in after if n.endswith(("nll", "brier", "ece", "mass")))
    assert after["ece"] < 0.05 < before["ece"]
