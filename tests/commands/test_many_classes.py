"""20,000 classes: memory grows with what occurs, not with classes x classes or all scores."""

from __future__ import annotations

import csv
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest

from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.intervals import bootstrap_intervals
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.scores import confused_pairs, confusion_counts
from imgcls.metrics.slices import slice_metrics
from imgcls.output.plots.confusion import draw_confusion
from imgcls.output.plots.curves import ClassCurves, draw_precision_recall, draw_roc
from imgcls.storage.evaluations import _write_predictions

CLASSES, PICTURES = 20_000, 300


@contextmanager
def at_most(mib):
    """Fails when more Python memory than this is added at any time; mapped files do not count."""
    tracemalloc.start()
    try:
        yield
        peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak_mib < mib


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Predictions of 300 pictures of 200 of the classes, half of them right, on disk."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 200, PICTURES) * 100
    said = np.where(rng.random(PICTURES) < 0.5, labels, rng.integers(0, 200, PICTURES) * 100)
    file = tmp_path_factory.mktemp("many") / "logits.npy"
    logits = rng.random((PICTURES, CLASSES), dtype=np.float32)
    logits[np.arange(PICTURES), said] += 10
    np.save(file, logits)
    return Predictions(
        tuple(map(str, range(PICTURES))), np.load(file, mmap_mode="r"), labels, temperature=2.0
    )


def test_metrics_and_intervals_take_memory_for_what_occurs(many):
    """A matrix of all classes would take 3.2 GB, their counts in 1,000 resamples 160 MB."""
    names = [f"species {i}" for i in range(CLASSES)]
    with at_most(120):
        found = MetricsCalculator(names).compute(many)
        intervals = bootstrap_intervals(many, samples=1000)
        rows = slice_metrics(many, ["a", "b"] * (PICTURES // 2), samples=1000, seed=0)
    assert found.metrics["accuracy"] == pytest.approx(many.correct.mean())
    low, high = intervals["accuracy"]
    assert low < found.metrics["accuracy"] < high
    mean = np.mean([row.metrics["accuracy"] for row in rows])
    assert mean == pytest.approx(found.metrics["accuracy"])


def test_the_matrix_takes_memory_for_the_classes_it_shows(many, monkeypatch):
    """The worst ones, with every confusion among them."""
    monkeypatch.setattr("imgcls.output.plots.confusion._MOST_CLASSES", 40)
    names = [f"species {i}" for i in range(CLASSES)]
    with at_most(100):
        confusion = confusion_counts(many.labels, many.predicted, CLASSES)
        pairs = confused_pairs(confusion, 20)
        drawing = draw_confusion(confusion, names, normalized=False)
    all_pairs = confused_pairs(confusion, CLASSES)
    counts = [count for *_, count in all_pairs]
    assert sum(counts) == (~many.correct).sum()
    assert counts == sorted(counts, reverse=True)
    assert pairs == all_pairs[:20]
    told = {tooltip.text.splitlines()[0] for tooltip in drawing.tooltips}
    wrong = {f"species {true} as species {said}" for true, said, _ in all_pairs}
    assert {text for text in told if not text.endswith(", right")} <= wrong
    assert told & wrong


def test_curves_take_memory_for_the_scores_that_draw_them(many):
    """One copy to sort, not an order, ranks and rates of every score."""
    areas = {"roc_auc": 0.5, "average_precision": 0.5}
    per_class = [{"class": str(i), **areas} for i in range(CLASSES)]
    totals = {f"{name}_{mean}": 0.5 for name in areas for mean in ("macro", "micro")}
    with at_most(120):
        curves = ClassCurves(many)
        draw_roc(curves, totals, per_class)
        draw_precision_recall(curves, totals, per_class)


def test_probabilities_become_text_a_few_rows_at_a_time(tmp_path):
    """3,000 pictures x 100 classes are 300,000 numbers, 20 MB as texts of Python."""
    labels = np.arange(3000) % 100
    logits = np.random.default_rng(0).random((3000, 100), dtype=np.float32)
    p = Predictions(tuple(map(str, range(3000))), logits, labels)
    assert len(p.predicted) == 3000  # worked out beforehand, so that only the file counts
    with at_most(10):
        _write_predictions(tmp_path / "predictions.csv", [f"c{i}" for i in range(100)], p, None)
    with (tmp_path / "predictions.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == list(p.keys)
    written = [[float(row[f"prob_c{i}"]) for i in range(100)] for row in rows[::300]]
    np.testing.assert_allclose(written, p.probabilities[::300], rtol=1e-5)
