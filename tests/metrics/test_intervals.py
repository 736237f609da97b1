"""Bootstrap intervals: seeded, exact against a plain loop, and as wide as they should be."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from random_predictions import some_predictions
from sklearn import metrics as sk

from imgcls.errors import ConfigError, DataError
from imgcls.metrics import intervals as intervals_module
from imgcls.metrics import predictions as predictions_module
from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.intervals import bootstrap_intervals, percentile_interval
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.registry import all_metrics
from imgcls.metrics.resampling import Resampler, draw, draw_units
from imgcls.metrics.scores import class_counts
from imgcls.metrics.slices import slice_metrics
from imgcls.metrics.tally import RankTally, Tally

NAMES = {
    "accuracy", "balanced_accuracy", "f1_macro", "precision_macro", "recall_macro", "f1_weighted",
    "precision_weighted", "recall_weighted", "cohen_kappa", "mcc", "top_2_accuracy", "nll",
    "brier", "roc_auc_macro", "roc_auc_micro", "average_precision_macro", "average_precision_micro",
}  # fmt: skip


def test_an_interval_encloses_the_value():
    """All names are there, and each metric of the whole split lies inside its interval."""
    p = some_predictions(400, 4)
    metrics = MetricsCalculator("abcd", (2, 4)).compute(p).metrics
    intervals = bootstrap_intervals(p, samples=300, top_k=(2, 4))  # top 4 of 4 is undefined
    assert set(intervals) == NAMES
    for name, (low, high) in intervals.items():
        assert low < metrics[name] < high, name


def test_an_interval_that_misses_its_own_value_is_not_given():
    """Two pictures of each of 100 classes, drawn twice, make average precision look better."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(200, 100)).astype(np.float32)
    p = Predictions(tuple(map(str, range(200))), logits, np.repeat(np.arange(100), 2))
    metrics = MetricsCalculator([f"c{i}" for i in range(100)]).compute(p).metrics
    drawn = Tally(p.outcomes, (), RankTally(p)).metrics(next(Resampler(p.labels, 200, 0).weights()))
    assert np.quantile(drawn["average_precision_macro"], 0.025) > metrics["average_precision_macro"]
    intervals = bootstrap_intervals(p, samples=200)
    assert "average_precision_macro" not in intervals
    for name, (low, high) in intervals.items():
        assert low <= metrics[name] <= high, name


def test_each_resample_scores_as_scikit_learn_scores_its_pictures():
    """The vectorised counts equal scikit-learn on pictures that are really repeated."""
    p = some_predictions(40, 5, seed=3)
    p = Predictions(p.keys, p.logits, np.where(p.labels == 4, 0, p.labels))  # one class absent
    drawn = np.random.default_rng(0).multinomial(14, np.full(14, 1 / 14), 20)
    weights = np.repeat(drawn, 3, axis=1)[:, :40].astype(float)
    scored = Tally(p.outcomes, all_metrics((1, 3)), RankTally(p)).metrics(weights)
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
        assert scored["cohen_kappa"][r] == pytest.approx(sk.cohen_kappa_score(labels, guess))
        assert scored["mcc"][r] == pytest.approx(sk.matthews_corrcoef(labels, guess))
        top_3 = sk.top_k_accuracy_score(labels, p.logits[rows], k=3, labels=range(5))
        assert scored["top_3_accuracy"][r] == pytest.approx(top_3)
        assert scored["nll"][r] == pytest.approx(p.picture_losses[rows].mean())
        assert scored["brier"][r] == pytest.approx(p.brier_scores[rows].mean())


@pytest.mark.parametrize("rounded", [False, True])
def test_areas_of_each_resample_equal_scikit_learn(rounded):
    """ROC AUC and average precision of repeated pictures, with ties and a class that drops out."""
    p = some_predictions(30, 3, seed=5)
    p = Predictions(p.keys, np.round(p.logits) if rounded else p.logits, p.labels)
    weights = np.random.default_rng(1).integers(0, 3, (25, 30)).astype(float)
    weights[0, p.labels == 2] = 0
    scored = Tally(p.outcomes, (), RankTally(p)).metrics(weights)
    for r, row in enumerate(weights.astype(int)):
        rows = np.repeat(np.arange(30), row)
        one_hot, scores = np.eye(3)[p.labels[rows]], p.probabilities[rows]
        seen = np.flatnonzero(one_hot.any(axis=0))
        for name, function in (
            ("roc_auc", sk.roc_auc_score), ("average_precision", sk.average_precision_score),
        ):  # fmt: skip
            macro = np.mean([function(one_hot[:, c], scores[:, c]) for c in seen])
            assert scored[f"{name}_macro"][r] == pytest.approx(macro, abs=1e-12)
            micro = function(one_hot.ravel(), scores.ravel())
            assert scored[f"{name}_micro"][r] == pytest.approx(micro, abs=1e-12)


def test_areas_have_no_interval_where_it_would_take_long(monkeypatch):
    """Beyond the limit the other metrics still have theirs."""
    monkeypatch.setattr(intervals_module, "MOST_RANK_CELLS", 100 * 60 * 3 - 1)
    assert set(bootstrap_intervals(some_predictions(60, 3), 100, top_k=(2,))) == {
        name for name in NAMES if "roc" not in name and "average" not in name
    }


def test_a_mean_varies_over_the_resamples_as_its_unbiased_estimate():
    """Of a class of two, too, where drawing both gives half of it; one alone is always there."""
    values = np.array([1.0, 3.0, 2.0, 9.0, 4.0, 7.0])
    labels = np.array([0, 0, 1, 1, 1, 2])
    weights = np.concatenate(list(Resampler(labels, 20_000, 0).weights()))
    assert (weights[:, 5] == 1).all()
    for label in (0, 1):
        own = labels == label
        assert weights[:, own].sum(axis=1) == pytest.approx(own.sum())
        means = weights[:, own] @ values[own] / own.sum()
        assert means.var() == pytest.approx(values[own].var(ddof=1) / own.sum(), rel=0.05)


def test_a_picture_without_a_group_is_one_of_its_own():
    """Blank cells are drawn apart, named groups together."""
    groups = ["a", "", None, "a", "b", ""]
    units, _ = draw_units(np.zeros(6, dtype=int), groups)
    assert units[0] == units[3]
    assert len(set(units)) == 5
    p = some_predictions(60, 3)
    blank = bootstrap_intervals(p, groups=[""] * 60)["accuracy"]
    low, high = bootstrap_intervals(p)["accuracy"]
    assert blank == pytest.approx((low, high), abs=0.03)
    some = slice_metrics(p, ["s"] * 60, samples=200, seed=0, groups=[""] * 60)
    none = slice_metrics(p, ["s"] * 60, samples=200, seed=0)
    for name, (low, high) in none[0].intervals.items():
        assert some[0].intervals[name] == pytest.approx((low, high), abs=0.1)


def test_a_fold_is_left_out_at_the_same_weight_of_each_class():
    """A class that is in one fold only stays as it is."""
    resampler = Resampler(np.array([0, 0, 1, 1, 1]), 2, 0, folds=np.array([4, 7, 4, 7, 7]))
    assert resampler.folds == 2
    assert resampler.fold_left_out().tolist() == [[0, 2, 0, 1.5, 1.5], [2, 0, 3, 0, 0]]
    alone = Resampler(np.array([0, 1, 1]), 2, 0, folds=np.array([0, 0, 1]))
    assert alone.fold_left_out().tolist() == [[1, 0, 2], [1, 2, 0]]


def test_models_that_differ_widen_the_interval():
    """Of equally good folds it mostly stays as it is; it never leaves a metric's range."""
    p = some_predictions(200, 2, seed=3)
    folds = np.arange(200) % 4
    # the pictures of one fold are all wrong
    worse = Predictions(p.keys, np.where((folds == 0)[:, None], -p.logits, p.logits), p.labels)
    for predictions, least, most in ((p, 0.999, 1.6), (worse, 1.3, 9)):
        alone = bootstrap_intervals(predictions)
        wide = bootstrap_intervals(predictions, folds=folds)
        for name in ("accuracy", "balanced_accuracy", "roc_auc_macro"):
            (low, high), (lower, higher) = alone[name], wide[name]
            assert lower <= low < high <= higher
            assert least <= (higher - lower) / (high - low) <= most
            assert 0 <= lower < higher <= 1


def test_one_class_alone_has_intervals_of_what_is_defined():
    """Kappa and the areas of classes are not, and have none."""
    p = Predictions(("a", "b", "c"), np.eye(2, dtype=np.float32)[[0, 0, 1]], np.zeros(3, int))
    found = bootstrap_intervals(p, 200)
    assert found["accuracy"] == (0.0, 1.0)
    assert not {"cohen_kappa", "roc_auc_macro"} & set(found)


def test_pictures_are_drawn_within_their_class():
    """Every resample has the class counts of the split, and varies."""
    p = some_predictions(50, 4)
    units, strata = draw_units(p.labels, None)
    weights = draw(np.random.default_rng(0), strata, 200)[:, units]
    for c in range(4):
        assert weights[:, p.labels == c].sum(axis=1) == pytest.approx((p.labels == c).sum())
    assert weights.mean(axis=0) == pytest.approx(np.ones(50), abs=0.4)
    assert len(np.unique(weights, axis=0)) == 200


def test_pictures_of_a_group_are_drawn_together():
    """All pictures of a group appear equally often; groups stay among those of their class."""
    p = some_predictions(60, 3)
    groups = [f"patient {i}" for i in np.random.default_rng(1).integers(0, 12, 60)]
    units, strata = draw_units(p.labels, groups)
    draws = draw(np.random.default_rng(0), strata, 50)
    for stratum in np.unique(strata):
        inside = strata == stratum
        assert draws[:, inside].sum(axis=1) == pytest.approx(inside.sum())
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
    monkeypatch.setattr(predictions_module, "CELLS_PER_BLOCK", 500)
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
    truth = MetricsCalculator("abc", (2,)).compute(split(rng, 3334)).metrics
    covered = dict.fromkeys(NAMES, 0)
    for trial in range(1000):
        found = bootstrap_intervals(split(rng, 1), 1000, seed=trial, top_k=(2,))
        for name, (low, high) in found.items():
            covered[name] += low <= truth[name] <= high
    outside = {name: n for name, n in covered.items() if not 930 <= n <= 970}
    assert not outside


# of 14 classes, as unbalanced as sets of species are
FOURTEEN = np.array([120, 90, 70, 55, 45, 36, 30, 24, 20, 16, 12, 10, 8, 6])


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, 0.15])
def test_pooled_intervals_cover_the_truth_as_often_as_they_say(spread, monkeypatch):
    """95% intervals of 1,000 cross-validations hold the mean model's value 93-97% of the time.

    Five folds of 14 unbalanced classes, a model each, whose skill varies by `spread`; the classes
    differ in how hard they are.
    """
    monkeypatch.setattr(intervals_module, "MOST_RANK_CELLS", 0)
    labels = np.repeat(np.arange(14), FOURTEEN)
    folds = np.arange(len(labels)) % 5
    ease = np.linspace(2.5, 1.5, 14)[labels]

    def pooled(rng):
        logits = rng.normal(size=(len(labels), 14)).astype(np.float32)
        skill = ease + (spread * rng.normal(size=5))[folds]
        logits[np.arange(len(labels)), labels] += skill
        return Predictions(tuple(map(str, range(len(labels)))), logits, labels)

    rng = np.random.default_rng(0)
    names = ("accuracy", "balanced_accuracy")
    counts = [class_counts(p.labels, p.predicted, 14) for p in map(pooled, [rng] * 4000)]
    truth = {name: np.mean([getattr(each, name) for each in counts]) for name in names}
    covered = dict.fromkeys(names, 0)
    for trial in range(1000):
        found = bootstrap_intervals(pooled(rng), 1000, seed=trial, folds=folds)
        for name in names:
            low, high = found[name]
            covered[name] += low <= truth[name] <= high
    assert all(930 <= count <= 970 for count in covered.values()), covered


def test_rounding_is_no_spread():
    """One picture a class: every resample is the same, summed in another order."""
    assert percentile_interval(9.75 + np.arange(5) * 2e-15) is None
    assert percentile_interval(9.75 + np.arange(5) * 1e-9) is not None
