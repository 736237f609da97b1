"""Points of ROC and precision-recall curves equal scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from random_predictions import predictions
from sklearn import metrics as sk

from imgcls.metrics.curve_points import curve_points, mean_curves


def scorable(p):
    counts = np.bincount(p.labels, minlength=p.logits.shape[1])
    return np.flatnonzero((counts > 0) & (counts < len(p.labels)))


@given(predictions())
def test_points_are_those_of_scikit_learn(p):
    """Every distinct threshold once, ties taken together."""
    for c in scorable(p):
        positive, scores = p.labels == c, p.probabilities[:, c]
        points = curve_points(positive, scores)
        fpr, tpr, thresholds = sk.roc_curve(positive, scores, drop_intermediate=False)
        assert np.array_equal(points.thresholds, thresholds[1:])
        assert points.false_positive_rate == pytest.approx(fpr[1:], abs=1e-12)
        assert points.recall == pytest.approx(tpr[1:], abs=1e-12)
        precision, recall, _ = sk.precision_recall_curve(positive, scores)
        assert points.precision == pytest.approx(precision[:-1][::-1], abs=1e-12)
        assert points.recall == pytest.approx(recall[:-1][::-1], abs=1e-12)


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
