"""Predictions: what they refuse, and their softmax."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from imgcls.errors import DataError
from imgcls.metrics.predictions import Predictions


def test_logits_that_are_not_finite_are_refused_with_the_picture():
    """A NaN is an error that names the picture, not a number in a table."""
    logits = np.zeros((3, 2), dtype=np.float32)
    logits[1, 0] = np.nan
    with pytest.raises(DataError, match=r"1 of 3 pictures, the first is dog\.jpg"):
        Predictions(("cat.jpg", "dog.jpg", "c"), logits, np.array([0, 1, 0]))


def test_logits_too_large_for_float32_are_refused():
    """A float64 that float32 cannot hold is not finite."""
    with pytest.raises(DataError, match=r"the first is a\.jpg"):
        Predictions(("a.jpg",), np.array([[1e300, 0.0]]), np.array([0]))


@pytest.mark.parametrize(
    ("keys", "shape", "labels", "message"),
    [
        ((), (0, 2), np.zeros(0, dtype=np.int64), "no pictures to score"),
        ((), (0,), np.zeros(0), "no pictures to score"),
        (("a",), (1, 2), np.array([2]), "a: label 2 is not one of the model's 2 outputs"),
        (("a",), (1, 2), np.array([-1]), "a: label -1 is not one"),
        (("a",), (2, 2), np.array([0, 1]), "1 pictures, 2 rows of scores and 2 labels"),
        (("a",), (2,), np.array([0]), r"scores of shape \(2,\)"),
        (("a",), (1, 0), np.array([0]), r"scores of shape \(1, 0\)"),
        (("a",), (1, 2), np.array([[0]]), r"labels of shape \(1, 1\)"),
        (("a",), (1, 2), np.array([0.5]), "labels are float64"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(keys, shape, labels, message):
    """Empty splits, foreign labels and wrong shapes, each in one line."""
    with pytest.raises(DataError, match=message):
        Predictions(keys, np.zeros(shape, dtype=np.float32), labels)


def test_probabilities_are_float32_softmax_of_float32_logits():
    """Whatever type the logits came in, and however far apart they are."""
    logits = np.array([[1.0, 2.0, 3.0], [500.0, -500.0, 0.0], [3e38, -3e38, 0.0]])
    p = Predictions(("a", "b", "c"), logits, np.array([0, 1, 2], dtype=np.int32))
    assert p.probabilities.dtype == np.float32
    assert (p.logits.dtype, p.labels.dtype) == (np.float32, np.int64)
    assert np.allclose(p.probabilities, softmax(logits, axis=1), atol=1e-7)
    assert p.logits[0].tolist() == [1.0, 2.0, 3.0]  # the softmax has not written into them
    assert p.predicted.tolist() == [2, 0, 0]
    assert np.isfinite(p.picture_losses).all()
