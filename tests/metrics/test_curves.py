"""Areas and curves equal scikit-learn's, with ties and constant scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_predictions import names, predictions, some_predictions
from sklearn import metrics as sk

from imgcls.errors import DataError
from imgcls.metrics import curves as curves_module
from imgcls.metrics import predictions as predictions_module
from imgcls.metrics.curves import (
    compute_pr_curves,
    compute_roc_auc,
    curve_points,
    mean_curves,
    rank_scores,
)


def ranked(labels, scores):
    return rank_scores(labels, scores, scores[np.arange(len(labels)), labels])


def sklearn_areas(positive, scores):
    return sk.roc_auc_score(positive, scores), sk.average_precision_score(positive, scores)


@settings(max_examples=150, deadline=None)
@given(predictions(), st.booleans())
def test_areas_equal_scikit_learn_class_by_class(p, in_float64):
    """Each class that can be scored, to 1e-12; the others are nan."""
    scores = p.probabilities.astype(np.float64) if in_float64 else p.probabilities
    ranks = ranked(p.labels, scores)
    for c in range(scores.shape[1]):
        positive = p.labels == c
        assert ranks.scored[c] == (0 < positive.sum() < len(positive))
        if ranks.scored[c]:
            auc, average_precision = sklearn_areas(positive, scores[:, c])
            assert ranks.roc_auc[c] == pytest.approx(auc, abs=1e-12)
            assert ranks.average_precision[c] == pytest.approx(average_precision, abs=1e-12)
        else:
            assert np.isnan([ranks.roc_auc[c], ranks.average_precision[c]]).all()
    one_hot = np.eye(scores.shape[1])[p.labels]
    expected = sklearn_areas(one_hot.ravel(), scores.ravel())
    assert (ranks.roc_auc_micro, ranks.average_precision_micro) == pytest.approx(
        expected, abs=1e-12
    )


def test_scores_of_any_sign_may_be_ranked():
    """Logits have the areas that scikit-learn gives them."""
    p = some_predictions(80, 4)
    expected = [sklearn_areas(p.labels == c, p.logits[:, c]) for c in range(4)]
    ranks = ranked(p.labels, p.logits)
    found = np.stack([ranks.roc_auc, ranks.average_precision], axis=1)
    assert np.allclose(found, expected, rtol=0, atol=1e-12)


def test_small_blocks_give_the_same_areas(monkeypatch):
    """The size of the temporary arrays is not seen in the result."""
    p = some_predictions(60, 5)
    whole = ranked(p.labels, p.probabilities)
    monkeypatch.setattr(predictions_module, "CELLS_PER_BLOCK", 130)
    monkeypatch.setattr(curves_module, "_FEWEST_ROWS", 7)
    parts = ranked(p.labels, p.softmax[:])
    assert np.array_equal(whole.roc_auc, parts.roc_auc)
    assert np.array_equal(whole.average_precision, parts.average_precision)
    assert whole.roc_auc_micro == parts.roc_auc_micro
    assert whole.average_precision_micro == parts.average_precision_micro


def test_compute_roc_auc_leaves_out_the_absent_class():
    """macro over the classes that can be scored; micro over all cells."""
    p = some_predictions(50, 3)
    wide = np.column_stack([p.probabilities, np.full(50, 0.1, dtype=np.float32)])
    areas = compute_roc_auc(p.labels, wide)
    expected = [sk.roc_auc_score(p.labels == c, wide[:, c]) for c in range(3)]
    assert areas["macro"] == pytest.approx(np.mean(expected), abs=1e-12)
    one_hot = np.eye(4)[p.labels].ravel()
    assert areas["micro"] == pytest.approx(sk.roc_auc_score(one_hot, wide.ravel()), abs=1e-12)


def test_one_class_only_has_no_macro_area():
    """None, not NaN."""
    areas = compute_roc_auc(np.zeros(3, dtype=np.int64), np.eye(3, dtype=np.float32))
    assert areas["macro"] is None
    assert areas["micro"] is not None
    one_column = compute_roc_auc(np.zeros(3, dtype=np.int64), np.ones((3, 1), dtype=np.float32))
    assert one_column == {"micro": None, "macro": None}


@settings(max_examples=50, deadline=None)
@given(predictions())
def test_pr_curves_equal_scikit_learn(p):
    """Points and average precision of each class that has pictures."""
    classes = p.logits.shape[1]
    curves = compute_pr_curves(p.labels, p.probabilities, names(classes))
    assert [curve.class_name for curve in curves] == [f"c{c}" for c in np.unique(p.labels)]
    for curve in curves:
        c = int(curve.class_name[1:])
        positive, scores = p.labels == c, p.probabilities[:, c]
        precision, recall, thresholds = sk.precision_recall_curve(positive, scores)
        assert np.array_equal(curve.precision, precision)
        assert np.array_equal(curve.recall, recall)
        assert np.array_equal(curve.thresholds, thresholds)
        assert curve.average_precision == pytest.approx(
            sk.average_precision_score(positive, scores), abs=1e-12
        )


def test_arrays_that_do_not_fit_are_refused():
    """Also where a caller brings plain arrays; the row is named."""
    labels, probabilities = np.array([0, 1]), np.eye(2, dtype=np.float32)
    with pytest.raises(DataError, match="row 1: label 2 is not one"):
        compute_roc_auc(np.array([0, 2]), probabilities)
    with pytest.raises(DataError, match="1 of 2 pictures, the first is row 0"):
        compute_roc_auc(labels, np.array([[np.nan, 0.0], [0.0, 1.0]]))
    with pytest.raises(DataError, match="3 class names do not fit scores of 2 classes"):
        compute_pr_curves(labels, probabilities, names(3))


def scorable(p):
    counts = np.bincount(p.labels, minlength=p.logits.shape[1])
    return np.flatnonzero((counts > 0) & (counts < len(p.labels)))


@given(predictions())
def test_points_are_the_corners_of_scikit_learns_curves(p):
    """Ties taken together; of each recall the first point (but of 0) and the last alone."""
    for c in scorable(p):
        positive, scores = p.labels == c, p.probabilities[:, c]
        points = curve_points(positive, scores)
        fpr, tpr, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
        fpr, tpr = fpr[1:], tpr[1:]
        precision, recall, _ = sk.precision_recall_curve(positive, scores)
        assert recall[:-1][::-1] == pytest.approx(tpr)
        first = np.flatnonzero(np.diff(tpr, prepend=0.0) > 0)
        last = np.append(first, len(tpr)) - 1
        corners = np.union1d(first, last[last >= 0])
        assert points.false_positive_rate == pytest.approx(fpr[corners], abs=1e-12)
        assert points.recall == pytest.approx(tpr[corners], abs=1e-12)
        assert points.precision == pytest.approx(precision[:-1][::-1][corners], abs=1e-12)


@given(predictions())
def test_areas_under_mean_curves_are_the_macro_areas(p):
    """On a fine grid, the means over classes enclose the means of the classes' areas."""
    chosen = scorable(p)
    if not len(chosen):
        return
    grid = np.linspace(0, 1, 5041)  # 5040 is divided by every count of pictures below 11
    curves = [curve_points(p.labels == c, p.probabilities[:, c]) for c in chosen]
    recall, precision = mean_curves(curves, grid)
    auc = np.mean([sk.roc_auc_score(p.labels == c, p.probabilities[:, c]) for c in chosen])
    ap = np.mean([sk.average_precision_score(p.labels == c, p.probabilities[:, c]) for c in chosen])
    assert sk.auc(grid, recall) == pytest.approx(auc, abs=2e-3)
    assert precision[1:].mean() == pytest.approx(ap, abs=2e-3)
