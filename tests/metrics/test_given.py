"""Metrics of what a script gives: batch by batch, in whatever it holds its numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from random_predictions import names, predictions, some_predictions
from sklearn import metrics as sk

from imgcls.engine.training.selection.trackers import AverageMeter
from imgcls.errors import DataError
from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.curves import compute_pr_curves, compute_roc_auc
from imgcls.metrics.given import as_array


def in_batches(calculator, p, size):
    for first in range(0, len(p.labels), size):
        rows = slice(first, first + size)
        calculator.update(p.predicted[rows], p.labels[rows], p.probabilities[rows])
    return calculator


@settings(max_examples=60, deadline=None)
@given(predictions())
def test_batches_give_what_all_at_once_give(p):
    """Also with a last short one; nan stands for what is undefined."""
    class_names = names(p.logits.shape[1])
    whole = MetricsCalculator(class_names).compute(p)
    calculator = in_batches(MetricsCalculator(len(class_names), class_names), p, 7)
    found = calculator.compute()
    assert list(found) == list(whole.metrics)
    for name, value in whole.metrics.items():
        expected = float("nan") if value is None else value
        assert found[name] == pytest.approx(expected, abs=1e-6, nan_ok=True), name
    assert calculator.compute(calculator.collected).undefined == whole.undefined
    assert calculator.compute(calculator.collected).per_class == whole.per_class


def test_probabilities_of_float64_are_not_rounded():
    """Areas, losses and Brier scores are scikit-learn's of the very numbers that were given."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, 60).astype(np.int32)
    # nearer to one another than float32 can tell
    probs = 0.25 + rng.normal(size=(60, 4)) * 1e-9
    probs /= probs.sum(axis=1, keepdims=True)
    calculator = MetricsCalculator(4)
    calculator.update(probs.argmax(axis=1), targets, probs)
    found = calculator.compute()
    assert found["roc_auc_macro"] == pytest.approx(
        sk.roc_auc_score(targets, probs, multi_class="ovr"), abs=1e-12
    )
    assert found["nll"] == pytest.approx(sk.log_loss(targets, probs), abs=1e-12)
    assert found["top_3_accuracy"] == sk.top_k_accuracy_score(targets, probs, k=3)
    assert compute_roc_auc(targets, probs, 4)["macro"] == found["roc_auc_macro"]


def test_decisions_need_not_be_the_likeliest_class():
    """Counts are of what was decided, areas of the probabilities."""
    p = some_predictions(40, 2)
    decided = (p.probabilities[:, 1] > 0.2).astype(np.int64)
    calculator = MetricsCalculator(num_classes=2, class_names=["a", "b"])
    calculator.update(preds=decided, targets=p.labels, probs=p.probabilities)
    found = calculator.compute()
    assert found["accuracy"] == sk.accuracy_score(p.labels, decided)
    assert found["f1_macro"] == pytest.approx(sk.f1_score(p.labels, decided, average="macro"))
    auc = sk.roc_auc_score(p.labels, p.probabilities[:, 1])
    assert found["roc_auc_macro"] == pytest.approx(auc, abs=1e-12)
    assert np.isnan(found["top_3_accuracy"])


def test_buffers_that_are_used_again_change_nothing():
    """What was taken in is a copy, of arrays and of tensors."""
    p = some_predictions(20, 3)
    calculator = in_batches(MetricsCalculator(3), p, 20)
    expected = calculator.compute()
    again, probs = MetricsCalculator(3), torch.from_numpy(p.probabilities.copy())
    targets = p.labels.copy()
    again.update(p.predicted, targets, probs)
    probs.fill_(1 / 3)
    targets[:] = 0
    assert again.compute() == expected


@pytest.mark.parametrize("form", ["tensors", "lists", "half"])
def test_tensors_and_lists_are_taken(form):
    """Tensors that need gradients and bfloat16 too."""
    p = some_predictions(20, 3)
    probs = torch.from_numpy(p.probabilities)
    preds, targets = torch.from_numpy(p.predicted), torch.from_numpy(p.labels).int()
    if form == "tensors":
        probs = probs.requires_grad_()
    elif form == "half":
        probs = probs.bfloat16()
    else:
        preds, targets, probs = preds.tolist(), targets.tolist(), probs.tolist()
    calculator = MetricsCalculator(3, names(3))
    calculator.update(preds, targets, probs)
    exact = MetricsCalculator(names(3)).compute(p).metrics
    found = calculator.compute()
    assert found["accuracy"] == exact["accuracy"]
    assert found["roc_auc_macro"] == pytest.approx(exact["roc_auc_macro"], abs=0.01)
    curves = compute_pr_curves(targets, probs, 3, names(3))
    assert [curve.class_name for curve in curves] == names(3)
    assert compute_pr_curves(targets, probs)[0].class_name == "0"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": [1, 2, 3]}, "label 3 is not one of the model's 3 outputs, which are numbered"),
        ({"preds": [0, 1, 3]}, "row 2: prediction 3 is not one"),
        ({"preds": [0, 1]}, "3 rows of scores and 2 predictions"),
        ({"targets": [0.0, 1.0, 2.0]}, "labels are float64"),
        ({"probs": np.eye(3)[:, :2]}, "scores of 2 classes do not fit num_classes 3"),
        ({"probs": np.eye(3) * 4}, "row 0: probs are no probabilities (they sum to 4"),
        ({"probs": [[1.5, -0.5, 0.0]] * 3}, "the lowest is -0.5"),
        ({"probs": np.full((3, 3), np.nan)}, "not finite"),
        ({"probs": [0.1, 0.2, 0.7]}, "scores of shape (3,)"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(changes, words):
    """In one line, and what was taken in before stays."""
    calculator = MetricsCalculator(3)
    batch = {"preds": [0, 1, 2], "targets": [0, 1, 2], "probs": np.eye(3)}
    calculator.update(**batch)
    with pytest.raises(DataError) as caught:
        calculator.update(**{**batch, **changes})
    assert words in str(caught.value)
    assert calculator.compute()["samples"] == 3


def test_nothing_to_compute_is_refused():
    """Neither before the first batch nor behind a reset, nor with names of another number."""
    calculator = in_batches(MetricsCalculator(3), some_predictions(4, 3), 2)
    calculator.reset()
    with pytest.raises(DataError, match="no pictures"):
        calculator.compute()
    with pytest.raises(DataError, match="2 class names do not fit num_classes 3"):
        MetricsCalculator(3, ["a", "b"])
    with pytest.raises(DataError, match="scores of 2 classes do not fit num_classes 3"):
        compute_roc_auc([0, 1], np.eye(2), num_classes=3)


def test_a_meter_has_a_name_and_keeps_no_graph():
    """A loss that needs gradients is taken as a number."""
    meter = AverageMeter("loss")
    loss = torch.tensor(2.0, requires_grad=True) * 2
    meter.update(loss, n=3)
    meter.update(1.0, 1)
    assert (meter.name, meter.avg) == ("loss", 13 / 4)
    assert type(meter.sum) is float


def test_arrays_keep_their_types():
    """But for float16, in which sums lose pictures."""
    assert as_array(np.zeros(2, dtype=np.float64)).dtype == np.float64
    assert as_array(torch.zeros(2, dtype=torch.int32)).dtype == np.int32
    assert as_array(torch.zeros(2, dtype=torch.float16)).dtype == np.float32
