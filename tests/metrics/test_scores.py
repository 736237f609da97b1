"""Every metric equals scikit-learn's, also where scikit-learn must be asked carefully."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from random_predictions import names, predictions, some_predictions
from sklearn import metrics as sk

from imgcls.errors import DataError
from imgcls.metrics import calculator
from imgcls.metrics import predictions as predictions_module
from imgcls.metrics.calculator import MetricsCalculator, validation_metrics
from imgcls.metrics.predictions import Predictions


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
        confusion = sk.confusion_matrix(p.labels, guess, labels=range(p.logits.shape[1]))
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
        assert result.metrics["average_precision_macro"] == pytest.approx(np.mean(areas), abs=1e-12)
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
            assert row.roc_auc == pytest.approx(aucs[scored.index(c)], abs=1e-12)
        else:
            assert row.roc_auc is None


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
        else:
            # scikit-learn wants one score a picture for two classes, and cuts it at 0.5
            scores = p.logits if classes > 2 else p.probabilities[:, 1]
            theirs = sk.top_k_accuracy_score(p.labels, scores, k=k, labels=range(classes))
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
    from imgcls.storage.tables import HISTORY_COLUMNS

    p = Predictions(("a", "b"), np.eye(2, dtype=np.float32), np.array([0, 1]))
    by_training = {"epoch", "train_loss", "lr", "epoch_time"}
    from_weights = {"val_temperature", "val_calibrated_loss"}
    assert {*by_training, *from_weights, *validation_metrics(p)} == set(HISTORY_COLUMNS)


def test_standard_errors_are_those_of_shares():
    """By hand: 3 of 4 right in one class, the only one right in another, a third without any."""
    logits = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1]]
    found = validation_metrics(Predictions(tuple("abcde"), logits, np.array([0, 0, 0, 0, 1])))
    recalls = (4 / 6 * 2 / 6 / 4, 2 / 3 * 1 / 3 / 1)
    assert found["val_balanced_accuracy_se"] == pytest.approx(sum(recalls) ** 0.5 / 2)
    assert found["val_accuracy_se"] == pytest.approx((5 / 7 * 2 / 7 / 5) ** 0.5)


def test_a_class_absent_everywhere_keeps_its_row():
    """Its scores are undefined, not 0."""
    p = Predictions(("a", "b"), np.eye(3, dtype=np.float32)[:2], np.array([0, 1]))
    row = computed(p).per_class[2]
    assert (row.support, row.precision, row.recall, row.f1) == (0, None, None, None)


@settings(max_examples=150, deadline=None)
@given(predictions())
def test_kappa_and_mcc_equal_scikit_learn(p):
    """Kappa is undefined where scikit-learn's is NaN; MCC is then 0 as in scikit-learn."""
    result, guess = computed(p), p.predicted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where kappa is undefined
        kappa = sk.cohen_kappa_score(p.labels, guess)
        mcc = sk.matthews_corrcoef(p.labels, guess)
    assert result.metrics["mcc"] == pytest.approx(mcc, abs=1e-12)
    if np.isnan(kappa):
        assert result.metrics["cohen_kappa"] is None
        assert "one same class" in result.undefined["cohen_kappa"]
    else:
        assert result.metrics["cohen_kappa"] == pytest.approx(kappa, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(predictions())
def test_every_number_is_defined_or_has_its_reason(p):
    """No NaN reaches a report: finite numbers, or None with a reason, and strict JSON."""
    result = computed(p)
    assert set(result.undefined) == {n for n, v in result.metrics.items() if v is None}
    rows = [row.to_json() for row in result.per_class]
    json.dumps([result.metrics, rows, result.confusion_matrix], allow_nan=False)
    json.dumps(validation_metrics(p), allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(predictions())
def test_validation_and_evaluation_agree(p):
    """history.csv and test_metrics.json hold the same numbers for the same predictions."""
    final = computed(p).metrics
    found = validation_metrics(p)
    for name in {name for name in found if not name.endswith("_se")}:
        value, stem = found[name], name.removeprefix("val_")
        assert value == final[{"loss": "nll", "macro_f1": "f1_macro"}.get(stem, stem)]


def test_small_blocks_give_the_same_metrics(monkeypatch):
    """The size of the temporary arrays is not seen in the result."""
    p = some_predictions(60, 5)
    whole = computed(p).metrics
    monkeypatch.setattr(predictions_module, "CELLS_PER_BLOCK", 70)
    parts = computed(Predictions(p.keys, p.logits, p.labels)).metrics
    assert parts == pytest.approx(whole, abs=1e-12)


def test_a_hand_computed_case():
    """Three classes, five pictures, one class never predicted."""
    logits = np.eye(3, dtype=np.float32)[[0, 0, 1, 1, 0]]
    p = Predictions(tuple("abcde"), logits, np.array([0, 0, 1, 2, 2]))
    result = computed(p)
    assert result.confusion_matrix == ((2, 0, 0), (0, 1, 0), (1, 1, 0))
    assert result.metrics["accuracy"] == pytest.approx(3 / 5)
    assert result.metrics["balanced_accuracy"] == pytest.approx((1 + 1 + 0) / 3)
    assert result.metrics["precision_macro"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert result.metrics["f1_macro"] == pytest.approx((4 / 5 + 2 / 3 + 0) / 3)
    assert result.metrics["top_1_accuracy"] == pytest.approx(3 / 5)
    row = result.per_class[2]
    assert (row.class_name, row.support, row.predicted) == ("c2", 2, 0)
    assert (row.precision, row.recall, row.f1) == (None, 0.0, 0.0)


def test_class_names_that_do_not_fit_are_refused():
    """A calculator for other classes says so."""
    with pytest.raises(DataError, match="2 class names do not fit scores of 3 classes"):
        MetricsCalculator(names(2)).compute(some_predictions(4, 3))


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_confusions_are_the_mistakes_of_the_matrix(p):
    """Every cell off the diagonal, the greatest first."""
    result = computed(p)
    matrix = np.array(result.confusion_matrix)
    rows = {(row.true, row.predicted): row.count for row in result.confusions}
    assert rows == {(f"c{t}", f"c{g}"): matrix[t, g] for t, g in np.argwhere(matrix) if t != g}
    counts = [row.count for row in result.confusions]
    assert counts == sorted(counts, reverse=True)


def test_the_matrix_ends_where_its_square_would_not_fit(monkeypatch):
    """The commonest mistakes are still told."""
    monkeypatch.setattr(calculator, "MOST_MATRIX_CLASSES", 4)
    result = computed(some_predictions(60, 5))
    assert result.confusion_matrix == ()
    assert result.confusions
