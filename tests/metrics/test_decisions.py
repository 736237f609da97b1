"""Coverage, operating points and costs against plain loops and worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from random_predictions import names, predictions, some_predictions
from sklearn import metrics as sk

from imgcls.metrics import decisions
from imgcls.metrics.decisions import coverage_table, least_cost_classes, operating_points
from imgcls.metrics.predictions import Predictions


@settings(max_examples=100, deadline=None)
@given(predictions())
def test_coverage_answers_the_most_confident(p):
    """Each row equals scoring the pictures at or above its threshold; no more than are needed."""
    rows = coverage_table(p)
    assert rows[0].accuracy == pytest.approx(p.correct.mean())
    for row in rows:
        answered = p.confidences >= np.float32(row.threshold)
        assert row.pictures == answered.sum()
        assert row.coverage == answered.mean() >= row.wanted - 1e-9
        assert row.accuracy == pytest.approx(p.correct[answered].mean())
        surer = p.confidences > np.float32(row.threshold)
        assert surer.mean() < row.wanted


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_operating_points_have_the_highest_f1(p):
    """No threshold that is a score of the class gives more, by scikit-learn's own F1."""
    rows = operating_points(p, names(p.logits.shape[1]))
    assert [row.class_name for row in rows] == [f"c{c}" for c in np.unique(p.labels)]
    for row in rows:
        c = int(row.class_name[1:])
        scores, positive = p.probabilities[:, c], p.labels == c

        def f1(threshold, scores=scores, positive=positive):
            return sk.f1_score(positive, scores >= threshold)

        assert row.predicted_f1 == pytest.approx(sk.f1_score(positive, p.predicted == c))
        assert (row.threshold is None) == (row.held_out_f1 <= row.predicted_f1)
        assert (row.threshold is None) == (row.reason is not None)
        if row.threshold is not None:
            assert row.f1 == pytest.approx(f1(row.threshold))
            assert row.f1 == pytest.approx(max(map(f1, scores)))
            said = scores >= row.threshold
            assert row.recall == pytest.approx(sk.recall_score(positive, said))
            assert row.precision == pytest.approx(sk.precision_score(positive, said))


def test_a_threshold_is_given_where_it_holds_on_other_pictures():
    """A class whose probability is always too low gets one; one picture's own score is none."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [150, 49, 1])
    logits = rng.normal(size=(200, 3))
    logits[np.arange(200), labels] += 3
    logits[:, 1] -= 4  # told apart well, and hardly ever predicted
    keys = tuple(map(str, range(200)))
    second, last = operating_points(Predictions(keys, logits, labels), "abc")[1:]
    assert second.held_out_f1 > second.predicted_f1 + 0.2
    assert 0 < second.threshold < 0.5
    assert second.held_out_f1 <= second.f1 + 0.02
    assert last.held_out_f1 == 0
    assert last.threshold is last.f1 is None
    assert "no better than the predicted class" in last.reason


def test_pictures_of_a_group_choose_no_threshold_for_each_other():
    """Copies of a picture would bear out any threshold that suits it."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 10)
    p = Predictions(
        tuple(map(str, range(100))), np.repeat(rng.normal(size=(10, 2)), 10, 0), labels.repeat(10)
    )
    groups = np.arange(10).repeat(10)
    apart = operating_points(p, "ab")
    together = operating_points(p, "ab", groups)
    assert sum(row.held_out_f1 for row in together) < sum(row.held_out_f1 for row in apart)


def test_operating_points_end_where_they_would_take_long(monkeypatch):
    """Empty, not slow."""
    monkeypatch.setattr(decisions, "MOST_CURVE_CELLS", 59)
    assert operating_points(some_predictions(20, 3), names(3)) == ()


def test_the_cheapest_decision_of_a_worked_example():
    """Missing a tumour costs 10, a false alarm 1: it is called from a probability of 1/11 on."""
    probabilities = np.array([[0.92, 0.08], [0.90, 0.10], [0.3, 0.7]])
    p = Predictions(("a", "b", "c"), np.log(probabilities), np.array([0, 1, 1]))
    costs = np.array([[0.0, 1.0], [10.0, 0.0]])
    assert least_cost_classes(p, costs).tolist() == [0, 1, 1]


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_equal_costs_decide_as_predicted(p):
    """With one cost for every mistake the expected cost is 1 - probability."""
    classes = p.logits.shape[1]
    chosen = least_cost_classes(p, 1.0 - np.eye(classes))
    rows = np.arange(len(chosen))
    assert p.probabilities[rows, chosen] == pytest.approx(p.confidences, abs=1e-6)
