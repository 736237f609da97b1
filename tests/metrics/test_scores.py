"""Every metric equals scikit-learn's, also where scikit-learn must be asked carefully."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from imgcls.errors import DataError
from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.curves import compute_pr_curves, compute_roc_auc
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.scores import validation_metrics
from imgcls.metrics.speed import latency_percentiles, speed_metrics


@st.composite
def predictions(draw):
    """Random scores, often with ties, absent classes, few classes and few pictures."""
    classes = draw(st.integers(2, 7))
    count = draw(st.integers(1, 30))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    present = draw(st.integers(1, classes))
    labels = rng.integers(0, present, count)
    if draw(st.booleans()):
        labels = classes - 1 - labels
    logits = rng.normal(size=(count, classes)).astype(np.float32)
    if draw(st.booleans()):
        logits = np.round(logits)
    if draw(st.integers(0, 9)) == 0:
        logits[:] = 0
    return Predictions(tuple(map(str, range(count))), logits, labels.astype(np.int64))


def names(count):
    return [f"c{i}" for i in range(count)]


def computed(p):
    return MetricsCalculator(names(p.logits.shape[1])).compute(p)


@settings(max_examples=150, deadline=None)
@given(predictions())
def test_count_metrics_equal_scikit_learn(p):
    """Accuracy, balanced accuracy, precision, recall, F1: exactly scikit-learn's defaults."""
    ours, guess = computed(p).metrics, p.predicted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of classes that are not in y_true
        assert ours["accuracy"] == pytest.approx(sk.accuracy_score(p.labels, guess))
        assert ours["balanced_accuracy"] == pytest.approx(
            sk.balanced_accuracy_score(p.labels, guess)
        )
        for average in ("macro", "weighted"):
            precision, recall, f1, _ = sk.precision_recall_fscore_support(
                p.labels, guess, average=average, zero_division=0
            )
            assert ours[f"precision_{average}"] == pytest.approx(precision)
            assert ours[f"recall_{average}"] == pytest.approx(recall)
            assert ours[f"f1_{average}"] == pytest.approx(f1)
        confusion = sk.confusion_matrix(
            p.labels, guess, labels=range(p.logits.shape[1])
        )
    assert np.array_equal(np.array(computed(p).confusion_matrix), confusion)


@settings(max_examples=150, deadline=None)
@given(predictions())
def test_rank_metrics_equal_scikit_learn_class_by_class(p):
    """ROC AUC and average precision, over the classes that have both kinds of pictures."""
    result = computed(p)
    classes = p.logits.shape[1]
    one_hot = np.eye(classes)[p.labels]
    scored = [c for c in range(classes) if 0 < one_hot[:, c].sum() < len(p.labels)]
    aucs = [sk.roc_auc_score(one_hot[:, c], p.probabilities[:, c]) for c in scored]
    areas = [sk.average_precision_score(one_hot[:, c], p.probabilities[:, c]) for c in scored]
    assert result.metrics["classes_scored"] == len(scored)
    if scored:
        assert result.metrics["roc_auc_macro"] == pytest.approx(np.mean(aucs), abs=1e-12)
        assert result.metrics["average_precision_macro"] == pytest.approx(
            np.mean(areas), abs=1e-12
        )
    else:
        assert result.metrics["roc_auc_macro"] is None
        assert "no class" in result.undefined["roc_auc_macro"]
    assert result.metrics["roc_auc_micro"] == pytest.approx(
        sk.roc_auc_score(one_hot.ravel(), p.probabilities.ravel()), abs=1e-12
    )
    assert result.metrics["average_precision_micro"] == pytest.approx(
        sk.average_precision_score(one_hot.ravel(), p.probabilities.ravel()), abs=1e-12
    )
    for c, row in enumerate(result.per_class):
        if c in scored:
            assert row["roc_auc"] == pytest.approx(aucs[scored.index(c)], abs=1e-12)
        else:
            assert row["roc_auc"] is None


@settings(max_examples=100, deadline=None)
@given(predictions())
def test_top_k_equals_scikit_learn_or_is_undefined(p):
    """top-k with k >= classes is None with its reason, not 1.0; ties as scikit-learn's."""
    result = computed(p)
    classes = p.logits.shape[1]
    for k in (1, 3, 5):
        ours = result.metrics[f"top_{k}_accuracy"]
        if k >= classes:
            assert ours is None
            assert str(classes) in result.undefined[f"top_{k}_accuracy"]
        elif classes > 2:  # scikit-learn wants one score a picture for two classes
            theirs = sk.top_k_accuracy_score(p.labels, p.logits, k=k, labels=range(classes))
            assert ours == pytest.approx(theirs)


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_log_loss_equals_scikit_learn(p):
    """nll and val_loss are the mean cross-entropy."""
    probabilities = p.probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    theirs = sk.log_loss(p.labels, probabilities, labels=range(p.logits.shape[1]))
    assert computed(p).metrics["nll"] == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    assert validation_metrics(p)["val_loss"] == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_validation_metrics_have_the_names_of_history_csv():
    """The names come from the system that this one succeeds."""
    from imgcls.report.files import HISTORY_COLUMNS

    p = Predictions(("a", "b"), np.eye(2, dtype=np.float32), np.array([0, 1]))
    named = {"epoch", "train_loss", "lr", "epoch_time", *validation_metrics(p)}
    assert named == set(HISTORY_COLUMNS)


def test_a_class_absent_everywhere_keeps_its_row():
    """Its scores are undefined, not 0."""
    p = Predictions(("a", "b"), np.eye(3, dtype=np.float32)[:2], np.array([0, 1]))
    row = computed(p).per_class[2]
    assert (row["support"], row["precision"], row["recall"], row["f1"]) == (0, None, None, None)


def test_logits_that_are_not_finite_are_refused_with_the_picture():
    """A NaN is an error that names the picture, not a number in a table."""
    logits = np.zeros((3, 2), dtype=np.float32)
    logits[1, 0] = np.nan
    with pytest.raises(DataError, match=r"1 of 3 pictures, the first is dog\.jpg"):
        Predictions(("cat.jpg", "dog.jpg", "c"), logits, np.array([0, 1, 0]))


def test_no_pictures_and_foreign_labels_are_refused():
    """Neither an empty split nor a label beyond the model's outputs is scored."""
    with pytest.raises(DataError, match="no pictures"):
        Predictions((), np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=np.int64))
    with pytest.raises(DataError, match="label 2 is not one of the model's 2"):
        Predictions(("a",), np.zeros((1, 2), dtype=np.float32), np.array([2]))


def test_public_curves_equal_scikit_learn():
    """compute_roc_auc and compute_pr_curves, on a case with an absent class."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 50)
    probabilities = rng.dirichlet(np.ones(4), 50).astype(np.float32)
    areas = compute_roc_auc(labels, probabilities)
    expected = [sk.roc_auc_score(labels == c, probabilities[:, c]) for c in range(3)]
    assert areas["macro"] == pytest.approx(np.mean(expected))
    curves = compute_pr_curves(labels, probabilities, names(4))
    assert [curve.class_name for curve in curves] == names(3)
    for c, curve in enumerate(curves):
        assert curve.average_precision == pytest.approx(
            sk.average_precision_score(labels == c, probabilities[:, c])
        )


def test_speed_is_samples_over_total_time():
    """Throughput is not the mean of ratios."""
    speed = speed_metrics([0.1, 0.3], [10, 10], "cpu")
    assert speed["throughput_samples_per_sec"] == pytest.approx(50.0)
    assert speed["avg_time_per_sample_ms"] == pytest.approx(20.0)
    assert speed["min_time_per_sample_ms"] == pytest.approx(10.0)
    assert speed["max_time_per_sample_ms"] == pytest.approx(30.0)
    assert latency_percentiles([0.1] * 9 + [1.0])["p50"] == pytest.approx(100.0)
