"""Bootstrap intervals: seeded, exact against a plain loop, and as wide as they should be."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from random_predictions import some_predictions
from sklearn import metrics as sk

from imgcls.errors import ConfigError, DataError
from imgcls.metrics import blocks
from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.calibration import brier_scores
from imgcls.metrics.intervals import _draw, _Tally, _units, bootstrap_intervals
from imgcls.metrics.predictions import Predictions

NAMES = {
    "accuracy", "balanced_accuracy", "f1_macro", "precision_macro", "recall_macro", "nll", "brier",
}  # fmt: skip


def test_an_interval_encloses_the_value():
    """All names are there, and each metric of the whole split lies inside its interval."""
    p = some_predictions(400, 4)
    metrics = MetricsCalculator("abcd").compute(p).metrics
    intervals = bootstrap_intervals(p, samples=300)
    assert set(intervals) == NAMES
    for name, (low, high) in intervals.items():
        assert low < metrics[name] < high, name


def test_each_resample_scores_as_scikit_learn_scores_its_pictures():
    """The vectorised counts equal scikit-learn on pictures that are really repeated."""
    p = some_predictions(40, 5, seed=3)
    p = Predictions(p.keys, p.logits, np.where(p.labels == 4, 0, p.labels))  # one class absent
    units, strata = _units(p, np.arange(40) // 3)
    weights = _draw(np.random.default_rng(0), strata, 20)[:, units]
    scored = _Tally(p).metrics(weights)
    for r, row in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(40), row)
        labels, guess = p.labels[rows], p.predicted[rows]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn warns of classes not in y_true
            balanced = sk.balanced_accuracy_score(labels, guess)
            precision, recall, f1, _ = sk.precision_recall_fscore_support(
                labels, guess, average="macro", zero_division=0
            )
        assert scored["accuracy"][r] == pytest.approx(sk.accuracy_score(labels, guess))
        assert scored["balanced_accuracy"][r] == pytest.approx(balanced)
        assert scored["precision_macro"][r] == pytest.approx(precision)
        assert scored["recall_macro"][r] == pytest.approx(recall)
        assert scored["f1_macro"][r] == pytest.approx(f1)
        assert scored["nll"][r] == pytest.approx(p.picture_losses[rows].mean())
        assert scored["brier"][r] == pytest.approx(brier_scores(p)[rows].mean())


def test_pictures_are_drawn_within_their_class():
    """Every resample has the class counts of the split, and varies."""
    p = some_predictions(50, 4)
    units, strata = _units(p, None)
    weights = _draw(np.random.default_rng(0), strata, 200)[:, units]
    for c in range(4):
        assert (weights[:, p.labels == c].sum(axis=1) == (p.labels == c).sum()).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(50), abs=0.4)
    assert len(np.unique(weights, axis=0)) == 200


def test_pictures_of_a_group_are_drawn_together():
    """All pictures of a group appear equally often; groups stay among those of their class."""
    p = some_predictions(60, 3)
    groups = [f"patient {i}" for i in np.random.default_rng(1).integers(0, 12, 60)]
    units, strata = _units(p, groups)
    draws = _draw(np.random.default_rng(0), strata, 50)
    for stratum in np.unique(strata):
        inside = strata == stratum
        assert (draws[:, inside].sum(axis=1) == inside.sum()).all()
    for name in set(groups):
        mine = [i for i, group in enumerate(groups) if group == name]
        assert len(np.unique(units[mine])) == 1
        counts = np.bincount(p.labels[mine], minlength=3)
        assert strata[units[mine[0]]] == counts.argmax()


def test_copies_within_groups_do_not_narrow_the_interval():
    """Four copies of each picture, grouped, are no more evidence than the pictures themselves."""
    p = some_predictions(100, 2)
    copies = Predictions(
        tuple(map(str, range(400))), np.repeat(p.logits, 4, axis=0), np.repeat(p.labels, 4)
    )

    def width(predictions, groups=None):
        low, high = bootstrap_intervals(predictions, groups=groups)["accuracy"]
        return high - low

    grouped = width(copies, np.repeat(np.arange(100), 4))
    assert grouped == pytest.approx(width(p), rel=0.15)
    assert width(copies) < 0.6 * grouped


def test_the_seed_decides_and_the_block_size_does_not(monkeypatch):
    """Same seed, same numbers, on a machine with any block size."""
    p = some_predictions(60, 3)
    first = bootstrap_intervals(p, samples=100, seed=7)
    assert first != bootstrap_intervals(p, samples=100, seed=8)
    monkeypatch.setattr(blocks, "CELLS_PER_BLOCK", 500)
    second = bootstrap_intervals(p, samples=100, seed=7)
    for name in first:
        assert first[name] == pytest.approx(second[name], abs=1e-12)


def test_a_wider_confidence_gives_a_wider_interval():
    """99% holds 80%."""
    p = some_predictions(100, 3)
    wide, narrow = (bootstrap_intervals(p, confidence=c)["accuracy"] for c in (0.99, 0.8))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_requests_that_make_no_interval_are_refused():
    """Each in one line."""
    p = some_predictions(10, 2)
    with pytest.raises(ConfigError, match="0 bootstrap samples"):
        bootstrap_intervals(p, samples=0)
    with pytest.raises(ConfigError, match=r"confidence 95 is not between"):
        bootstrap_intervals(p, confidence=95)
    with pytest.raises(DataError, match="3 groups do not fit 10 pictures"):
        bootstrap_intervals(p, groups=["a", "b", "c"])
    with pytest.raises(DataError, match="one group alone"):
        bootstrap_intervals(p, groups=["a"] * 10)
    with pytest.raises(DataError, match="one picture alone"):
        bootstrap_intervals(some_predictions(1, 2))


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    """95% intervals of 1,000 splits of fixed class counts hold the true value 93-97% of the time.

    The truth of each metric is its value on a split of a million pictures.
    """
    counts = np.array([150, 100, 50])

    def split(rng, scale):
        labels = np.repeat(np.arange(3), counts * scale)
        logits = rng.normal(size=(len(labels), 3))
        logits[np.arange(len(labels)), labels] += 1.2
        return Predictions(tuple(map(str, range(len(labels)))), logits, labels)

    rng = np.random.default_rng(0)
    truth = MetricsCalculator("abc").compute(split(rng, 3334)).metrics
    covered = dict.fromkeys(NAMES, 0)
    for trial in range(1000):
        for name, (low, high) in bootstrap_intervals(split(rng, 1), 1000, seed=trial).items():
            covered[name] += low <= truth[name] <= high
    outside = {name: n for name, n in covered.items() if not 930 <= n <= 970}
    assert not outside
