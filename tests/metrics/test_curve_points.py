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
