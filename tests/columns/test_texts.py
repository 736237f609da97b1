"""Columns of texts: the same as tuples and lists of dicts, in a fraction of their memory."""

from __future__ import annotations

import pickle
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgcls.columns import packing, texts
from imgcls.columns.numbered import Numbered
from imgcls.columns.rows import TextRows, last_of_paths, matches
from imgcls.columns.texts import Texts

# halves of surrogate pairs and NULs too: names of files and cells hold what they hold
WORDS = st.text(st.characters(exclude_categories=()), max_size=20)
FEW = st.sampled_from(["", "train", "val", "é", "\ud83d", "a\0", "a", "\U0001f600"])
COLUMNS = st.one_of(st.lists(WORDS, max_size=40), st.lists(FEW, max_size=40))


@pytest.fixture(params=["blocks of three", "numbered to four", "as it is"])
def small_blocks(request, monkeypatch):
    """Columns of a few rows then take all the ways that those of millions take."""
    if request.param == "blocks of three":
        monkeypatch.setattr(texts, "BLOCK", 3)
        monkeypatch.setattr(packing, "_FEW_WORDS", 0)
    elif request.param == "numbered to four":
        monkeypatch.setattr(texts, "BLOCK", 2)
        monkeypatch.setattr(packing, "_FEW_WORDS", 4)


@pytest.mark.usefixtures("small_blocks")
@given(COLUMNS)
@settings(max_examples=80)
def test_a_column_is_the_tuple_of_its_texts(words):
    """Length, rows, slices, iteration, membership, equality, hash, and after pickling."""
    column, plain = Texts.of(words), tuple(words)
    assert len(column) == len(plain)
    assert tuple(column) == plain
    assert column == plain
    assert plain == column
    assert column != (*plain, "more")
    assert column != list(plain)
    assert hash(column) == hash(plain)
    assert [column[row] for row in range(-len(plain), len(plain))] == [*plain, *plain]
    for part in (slice(None), slice(1, 4), slice(-3, None), slice(5, 2), slice(None, None, -2)):
        assert column[part] == plain[part]
        assert pickle.loads(pickle.dumps(column[part])) == plain[part]
    for word in (*plain[:5], "not there"):
        assert (word in column) == (word in plain)
        assert column.count(word) == plain.count(word)
    for outside in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            column[outside]


@pytest.mark.usefixtures("small_blocks")
@given(COLUMNS, st.data())
@settings(max_examples=80)
def test_columns_select_and_sort_as_python_does(words, data):
    """Rows by an array, the sorted order with ties in place, the distinct texts, empty rows."""
    column = Texts.of(words)
    rows = data.draw(st.lists(st.integers(0, max(0, len(words) - 1)), max_size=50 if words else 0))
    chosen = column.select(np.array(rows, dtype=np.int64))
    assert chosen == tuple(words[row] for row in rows)
    for own, plain in ((column, words), (chosen, [words[row] for row in rows])):
        assert own.order().tolist() == sorted(range(len(plain)), key=plain.__getitem__)
        numbers, distinct = own.factorized()
        assert distinct == tuple(sorted(set(plain)))
        assert [distinct[number] for number in numbers] == plain
        assert own.distinct() == sorted(set(plain))
        assert own.empty_rows().tolist() == [row for row, text in enumerate(plain) if not text]
    assert column.mapped(str.upper) == tuple(map(str.upper, words))
    assert column.mapped(lambda text: text) is column
    assert Texts.joined([column, chosen]) == (*words, *chosen)
    assert Texts.numbered(np.array(rows, np.int64), words) == chosen
    assert column.holds(re.compile(b"\0")) == any("\0" in word for word in words)


@given(st.lists(st.text("ab\0", max_size=30), max_size=60))
@settings(max_examples=80)
def test_long_equal_beginnings_are_told_apart(words):
    """The order goes eight bytes at a time; these differ behind the eighth, or by a NUL."""
    column = Texts(*packing.packed(words))
    order, fresh = column.ranked()
    assert order.tolist() == sorted(range(len(words)), key=words.__getitem__)
    arranged = [words[row] for row in order]
    assert fresh.tolist() == [r == 0 or arranged[r] != arranged[r - 1] for r in range(len(words))]


@pytest.mark.usefixtures("small_blocks")
@given(st.lists(st.fixed_dictionaries({"path": WORDS, "split": FEW}), min_size=1, max_size=30))
@settings(max_examples=60)
def test_rows_are_the_list_of_their_dicts(rows):
    """Length, rows, slices, iteration, the rows in another order."""
    held = TextRows.of(rows)
    assert held == rows
    assert list(held) == rows
    assert held[len(rows) - 1] == rows[-1]
    assert held[1:] == rows[1:]
    assert held.sorted_by("path") == sorted(rows, key=lambda row: row["path"])
    assert TextRows.of(held) is held


def test_columns_of_more_than_four_gib_have_longer_ends():
    """Of such a column the ends are int64; all else is the same."""
    words = ["b", "", "ab", "a\0", "b"]
    data, ends = packing.packed(words)
    assert ends.dtype == np.uint32
    assert packing.ends_of(np.array([2**31, 2**31], np.uint32)).tolist() == [0, 2**31, 2**32]
    long = Texts(data, ends.astype(np.int64))
    assert long == tuple(words)
    assert long.order().tolist() == sorted(range(5), key=words.__getitem__)
    assert long.select(np.array([4, 2, 1])) == ("b", "ab", "")
    assert pickle.loads(pickle.dumps(long[1:4])) == tuple(words[1:4])


def test_rows_that_lack_what_is_needed_are_refused():
    """As a program may give them; None and a lacking cell that is not needed are empty."""
    rows = [{"path": "a", "fold": None}, {"path": "b", "fold": "1", "site": "x"}]
    held = TextRows.of(rows, ("path", "fold"))
    assert list(held.columns["site"]) == ["", "x"]
    assert list(held.columns["fold"]) == ["", "1"]
    with pytest.raises(KeyError, match="label"):
        TextRows.of(rows, ("path", "label"))
    with pytest.raises(TypeError, match="fold is 1, no text"):
        TextRows.of([{"path": "a", "fold": 1}], ("path", "fold"))


@given(st.lists(WORDS, unique=True, max_size=20), st.lists(WORDS, unique=True, max_size=20))
def test_texts_are_found_in_another_column(wanted, among):
    """The row of each, or -1."""
    found = matches(Texts.of(wanted), Texts.of(among))
    place = {text: row for row, text in enumerate(among)}
    assert found.tolist() == [place.get(text, -1) for text in wanted]


@given(st.lists(FEW, min_size=1, max_size=20))
def test_of_rows_with_one_path_the_last_counts(paths):
    """At the place of the first, as in a dict."""
    rows = [{"path": path, "label": str(number)} for number, path in enumerate(paths)]
    assert list(last_of_paths(TextRows.of(rows))) == list({r["path"]: r for r in rows}.values())


def test_numbered_texts_are_made_when_asked_for():
    """A word and a number each; rows and slices of them."""
    places = Numbered(Texts.of(["line ", "row ", "line "]), np.array([2, 3, 70_000]))
    assert list(places) == ["line 2", "row 3", "line 70000"]
    assert list(places[1:]) == ["row 3", "line 70000"]
    assert list(places.select(np.array([2, 0]))) == ["line 70000", "line 2"]


def test_a_column_takes_few_bytes_a_row():
    """200,000 paths of 25 letters take 8 bytes each beyond them, and splits take one."""
    count = 200_000
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        keys = Texts.of(f"folder/{row:015d}.jp" for row in range(count))
        splits = Texts.of("train" if row % 5 else "val" for row in range(count))
        taken, peak = (bytes_ - before for bytes_ in tracemalloc.get_traced_memory())
    finally:
        tracemalloc.stop()
    assert len(keys) == len(splits) == count
    # the tuple of such paths takes 82
    assert taken / count < 25 + 8 + 1 + 5
    assert peak / count < 70
