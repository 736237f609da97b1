"""Every picture goes to exactly one place, the same one on every machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgcls.data.open import open_source
from imgcls.data.splits.assign import assign_splits, assignment_from_rows, split_rows
from imgcls.data.table import SampleTable
from imgcls.errors import DataError


def table_of(counts, splits=None):
    """A table with so many rows of each class; no pictures behind it."""
    keys = [f"{name}/{i:04d}.png" for name, n in counts.items() for i in range(n)]
    labels = [index for index, n in enumerate(counts.values()) for _ in range(n)]
    return SampleTable(
        name="t",
        keys=tuple(keys),
        labels=np.array(labels, dtype=np.int64),
        class_names=tuple(counts),
        images=None,
        splits=splits,
    )


def shares(table, seed=0, val=0.15, test=0.15, folds=0):
    return assign_splits(table, val_size=val, test_size=test, folds=folds, seed=seed)


COUNTS = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3), st.integers(1, 60), min_size=2, max_size=6
)


@settings(max_examples=100, deadline=None)
@given(COUNTS, st.integers(0, 5), st.floats(0.05, 0.4), st.floats(0.0, 0.4))
def test_shares_partition_every_class(counts, seed, val, test):
    """Complete, disjoint, stratified to the picture, and a picture of each class in train."""
    if max(counts.values()) < 3:
        counts = {**counts, "zz": 5}
    table = table_of(counts)
    a = shares(table, seed, val, test)
    rows = np.concatenate([a.indices(s) for s in ("train", "val", "test")])
    assert sorted(rows) == list(range(len(table)))
    for label, n in enumerate(counts.values()):
        own = table.labels == label
        assert (a.split[own] == "train").any()
        if n >= 3 and test:
            held_out = (a.split[own] == "test").sum()
            assert held_out == min(max(round(n * test), 1), n - 1)


@settings(max_examples=50, deadline=None)
@given(COUNTS, st.integers(0, 5), st.randoms())
def test_the_order_of_rows_does_not_matter(counts, seed, rnd):
    """Same keys and seed, same split, whatever the file system's order."""
    counts = {**counts, "zz": 9}
    table = table_of(counts)
    order = list(range(len(table)))
    rnd.shuffle(order)
    shuffled = replace(table, keys=tuple(table.keys[i] for i in order), labels=table.labels[order])
    for folds in (0, 3) if min(counts.values()) >= 5 else (0,):
        one, two = shares(table, seed, folds=folds), shares(shuffled, seed, folds=folds)
        assert dict(zip(table.keys, zip(one.split, one.fold, strict=True), strict=True)) == dict(
            zip(shuffled.keys, zip(two.split, two.fold, strict=True), strict=True)
        )


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 40), st.integers(3, 40), st.integers(1, 20))
def test_more_pictures_of_one_class_move_no_other_class(a, b, more):
    """Hash-based shares: classes do not disturb each other."""
    before, after = table_of({"a": a, "b": b}), table_of({"a": a + more, "b": b})
    one = dict(zip(before.keys, shares(before).split, strict=True))
    two = dict(zip(after.keys, shares(after).split, strict=True))
    assert all(two[key] == split for key, split in one.items() if key.startswith("b/"))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.text("abcd", min_size=1, max_size=2), st.integers(8, 40), min_size=2),
    st.integers(2, 5),
)
def test_folds_partition_what_is_not_test(counts, folds):
    """Each picture outside test is validated in exactly one fold, classes spread evenly."""
    table = table_of(counts)
    a = shares(table, folds=folds)
    test = set(a.indices("test", 0))
    seen = []
    for fold in range(folds):
        val, train = set(a.indices("val", fold)), set(a.indices("train", fold))
        assert not val & train
        assert val | train == set(range(len(table))) - test
        seen += val
        for label in range(len(counts)):
            pool = sum(table.labels[i] == label for i in val | train)
            own = sum(table.labels[i] == label for i in val)
            assert pool // folds <= own <= -(-pool // folds)
    assert sorted(seen) == sorted(set(range(len(table))) - test)


def test_another_seed_gives_another_split():
    """The seed is used."""
    table = table_of({"a": 40, "b": 40})
    assert (shares(table, 0).split != shares(table, 1).split).any()


def test_given_splits_win():
    """What the data says about itself is not changed; test is not invented."""
    given_splits = ("train",) * 10 + ("val",) * 10
    a = shares(table_of({"a": 10, "b": 10}, ("train", "val") * 10))
    assert tuple(a.split) == ("train", "val") * 10
    assert not len(a.indices("test"))
    with pytest.raises(DataError, match="nothing to train on for class b"):
        shares(table_of({"a": 10, "b": 10}, given_splits))


def test_a_missing_val_is_taken_from_train():
    """train/ and test/ alone: validation comes out of train."""
    a = shares(table_of({"a": 20, "b": 20}, (("train",) * 15 + ("test",) * 5) * 2))
    assert len(a.indices("test")) == 10
    assert len(a.indices("val")) == 4
    assert "val taken from train" in a.splitter


def test_more_folds_than_pictures_names_the_class():
    """The smallest class decides."""
    with pytest.raises(DataError, match=r"class rare \(3\); use at most 3 folds"):
        shares(table_of({"common": 50, "rare": 4}), folds=5)
    with pytest.raises(DataError, match="leave such classes out, or train without --folds"):
        shares(table_of({"common": 50, "rare": 1}), folds=5, test=0.0)


def test_one_class_is_nothing_to_learn():
    """A score of 100% would mean nothing."""
    with pytest.raises(DataError, match="only one class, 'a'"):
        shares(table_of({"a": 9}))


def test_nothing_to_validate_on_says_what_to_do():
    """--val-size 0 without folds."""
    with pytest.raises(DataError, match="--val-size above 0"):
        shares(table_of({"a": 10, "b": 10}), val=0.0)


def test_classes_too_small_for_a_split_are_noted():
    """One and two pictures stay in train, or nearly."""
    a = shares(table_of({"a": 20, "tiny": 2}))
    assert any("tiny" in note for note in a.notes)


def test_splits_csv_gives_the_assignment_back():
    """Written and read, the split is the same; changed data are refused with names."""
    table = table_of({"a": 12, "b": 12})
    for folds in (0, 3):
        a = shares(table, folds=folds)
        rows = split_rows(table, a)
        b = assignment_from_rows(table, rows)
        assert (a.split == b.split).all()
        assert (a.fold == b.fold).all()
    with pytest.raises(DataError, match=r"1 pictures are gone since the run began: a/0099"):
        assignment_from_rows(table, [*rows, {**rows[0], "path": "a/0099.png"}])
    with pytest.raises(DataError, match=r"1 pictures are new since the run began: a/0000"):
        assignment_from_rows(table, rows[1:])
    with pytest.raises(DataError, match="was of class 'b'"):
        assignment_from_rows(table, [{**rows[0], "label": "b"}, *rows[1:]])


@st.composite
def grouped_tables(draw):
    """Up to six classes in up to thirty groups of any size; some pictures are on their own."""
    num_classes = draw(st.integers(2, 6))
    cells = st.tuples(st.integers(0, num_classes - 1), st.integers(0, 30))
    rows = draw(st.lists(cells, min_size=20, max_size=150))
    rows += [(label, 100 + 3 * label + n) for label in range(num_classes) for n in range(3)]
    return SampleTable(
        name="t",
        keys=tuple(f"{number:04d}.png" for number in range(len(rows))),
        labels=np.array([label for label, _ in rows], dtype=np.int64),
        class_names=tuple("abcdef"[:num_classes]),
        images=None,
        groups=tuple("" if group == 0 else f"g{group}" for _, group in rows),
    )


def places(table, assignment):
    return dict(zip(table.keys, zip(assignment.split, assignment.fold, strict=True), strict=True))


@settings(max_examples=150, deadline=None)
@given(grouped_tables(), st.integers(0, 5), st.sampled_from([0, 2, 3]), st.randoms())
def test_groups_are_never_divided(table, seed, folds, rnd):
    """Complete, disjoint, pure, the same in any order of rows, and every class is trained on."""
    a = shares(table, seed, folds=folds)
    for fold in range(max(folds, 1)):
        parts = [a.indices(s, fold) for s in ("train", "val", "test")]
        assert sorted(np.concatenate(parts)) == list(range(len(table)))
        tied = [{table.groups[row] for row in part} - {""} for part in parts]
        assert not tied[0] & tied[1]
        assert not tied[0] & tied[2]
        assert not tied[1] & tied[2]
        assert (table.class_counts(parts[0]) > 0).all()
        assert len(parts[1])
    order = list(range(len(table)))
    rnd.shuffle(order)
    shuffled = replace(
        table,
        keys=tuple(table.keys[i] for i in order),
        labels=table.labels[order],
        groups=tuple(table.groups[i] for i in order),
    )
    assert places(table, a) == places(shuffled, shares(shuffled, seed, folds=folds))
    assert a.splitter == (
        f"StratifiedGroupKFold({folds})" if folds else "stratified by hash, by whole groups"
    )


def patients(sizes, folds=None, splits=None):
    """Two classes; patient i has sizes[i] pictures of each."""
    rows = [(c, f"p{i}") for i, size in enumerate(sizes) for c in (0, 1) for _ in range(size)]
    return SampleTable(
        name="t",
        keys=tuple(f"{n:04d}.png" for n in range(len(rows))),
        labels=np.array([c for c, _ in rows], dtype=np.int64),
        class_names=("sick", "well"),
        images=None,
        groups=tuple(group for _, group in rows),
        folds=folds,
        splits=splits,
    )


def test_group_shares_come_near_what_was_asked_for():
    """A hundred patients of unequal sizes: 15% of the pictures, within one."""
    table = patients(np.random.default_rng(0).integers(1, 12, 100))
    for seed in range(5):
        a = shares(table, seed)
        for name in ("val", "test"):
            assert len(a.indices(name)) / len(table) == pytest.approx(0.15, abs=0.01)


def test_three_groups_are_enough_for_three_splits_and_two_are_not():
    """However large they are."""
    a = shares(patients([30, 4, 9]))
    assert sorted({a.split[row] for row in range(86)}) == ["test", "train", "val"]
    with pytest.raises(DataError, match=r"no picture is left to validate on.*more groups"):
        shares(patients([30, 4]))


def test_groups_on_their_own_split_as_single_pictures_do():
    """A group column that ties nothing together changes no share."""
    table = replace(table_of({"a": 40, "b": 23}), groups=tuple(f"g{i}" for i in range(63)))
    for name in ("val", "test"):
        expected = table.class_counts(shares(table_of({"a": 40, "b": 23})).indices(name))
        assert (table.class_counts(shares(table).indices(name)) == expected).all()


def test_folds_that_groups_cannot_fill_are_refused_with_counts():
    """Fewer groups than folds; a class that is all one patient's."""
    with pytest.raises(DataError, match="--folds 5: more folds than groups, which are 3"):
        shares(patients([5, 5, 5, 5]), folds=5, test=0.2)
    table = patients([4] * 6)
    one = replace(table, labels=np.array([g == "p1" for g in table.groups], dtype=np.int64))
    with pytest.raises(DataError, match=r"one group only.*: well \(8 pictures in 1 group\)"):
        shares(one, folds=2, test=0.0)
    two = replace(table, labels=np.array([g < "p2" for g in table.groups], dtype=np.int64))
    [note] = shares(two, folds=3, test=0.0).notes
    assert "fewer groups than folds" in note
    assert "well (16 pictures in 2 groups)" in note
    assert "sick" not in note


def test_given_folds_win():
    """Taken as they are, numbered from 0; test is not invented; another number is refused."""
    given_folds = np.array([4] * 6 + [6] * 6 + [9] * 6)
    a = shares(patients([3, 3, 3], given_folds))
    assert a.fold.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert a.num_folds == 3
    assert a.splitter == "folds given by the data"
    assert "4, 6, 9 are numbered from 0" in a.notes[0]
    assert not len(a.indices("test"))
    assert a.indices("val", 1).tolist() == list(range(6, 12))
    assert (shares(patients([3, 3, 3], given_folds), folds=3).fold == a.fold).all()
    with pytest.raises(DataError, match="--folds 5: the data's own folds are 3"):
        shares(patients([3, 3, 3], given_folds), folds=5)
    with pytest.raises(DataError, match="all pictures are in fold 2"):
        shares(patients([3, 3], np.full(12, 2)))


def test_given_splits_and_folds_may_stand_together():
    """Test is test, whatever its fold; train without a fold is always trained on."""
    splits = ("test",) * 4 + ("train",) * 4 + ("val",) * 4 + ("train",) * 4
    a = shares(patients([2, 2, 2, 2], np.array([0] * 4 + [-1] * 4 + [0] * 4 + [1] * 4), splits))
    assert a.indices("test").tolist() == [0, 1, 2, 3]
    assert a.indices("val", 0).tolist() == [8, 9, 10, 11]
    assert a.indices("train", 0).tolist() == [4, 5, 6, 7, 12, 13, 14, 15]


def test_given_splits_and_folds_that_divide_a_group_are_refused():
    """The group and where it stands."""
    splits = ("train", "val") * 6
    with pytest.raises(DataError, match=r"3 groups .* split or fold: 'p0' \(train, val\)"):
        shares(patients([2, 2, 2], splits=splits))
    with pytest.raises(DataError, match=r"'p0' \(fold 0, fold 1\)"):
        shares(patients([2, 2, 2], np.array([0, 1] * 6)))
    tied = ("train",) * 4 + ("test",) * 4 + ("train",) * 8
    assert shares(patients([2] * 4, splits=tied)).splitter == (
        "given by the data, val taken from train, stratified by hash, by whole groups"
    )


def test_a_run_that_goes_on_names_its_splitter():
    """splits.csv does not hold it; it follows from the data and the folds."""
    table = patients([3] * 9)
    for folds in (0, 3):
        a = shares(table, folds=folds)
        assert assignment_from_rows(table, split_rows(table, a)).splitter == a.splitter


@pytest.mark.parametrize(
    "row",
    [{"label": "a"}, {"path": "p", "label": "a", "split": "train", "fold": "x"}, {"path": "p"}],
)
def test_damaged_rows_of_a_split_are_named(row):
    """A column that is gone, a fold that is no number: no defect of ours."""
    with pytest.raises(DataError, match=r"splits\.csv of the run is damaged"):
        assignment_from_rows(open_source("digits"), [row])


@pytest.mark.parametrize("groups", [None, ("g",) * 12])
def test_folds_of_data_that_are_all_test_are_refused(groups):
    """There is nothing to deal, which scikit-learn would say in its own words."""
    table = replace(table_of({"a": 6, "b": 6}, splits=("test",) * 12), groups=groups)
    with pytest.raises(DataError, match="nothing to train on for class a, b"):
        shares(table, folds=3)
