"""Assigns splits and folds: those given, stratified shares, stratified k-fold.

Shares go by hash: within a class, rows are ordered by a hash of (seed, key) and the first ones go
to test, the next to val. So the split is the same on every machine and in every file order, and
pictures added to one class never move another class's. With groups, whole groups go by a hash of
(seed, group); folds are scikit-learn's, dealt in the same order.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from imgcls.columns.rows import TextRows, last_of_paths, matches
from imgcls.columns.texts import Texts
from imgcls.data.names import shortened
from imgcls.data.splits.groups import (
    check_groups_whole,
    deal_group_folds,
    has_groups,
    hash_order,
    split_array,
    split_codes,
    take_group_share,
)
from imgcls.data.table import SampleTable
from imgcls.errors import DataError

_SHOWN = 5
_NEEDED = ("path", "label", "split", "fold")


@dataclass(frozen=True, eq=False)
class SplitAssignment:
    """The split of each row ("train", "val", "test") and its fold, int64, -1 outside k-fold.

    With folds, every row that is not test is "train" and is validated in its own fold.
    `splitter` says how it was made; `notes` what the user should know.
    """

    split: np.ndarray
    fold: np.ndarray
    splitter: str
    notes: tuple[str, ...] = ()

    def indices(self, split: str, fold: int = 0) -> np.ndarray:
        """The rows of a split, as fold `fold` sees it, in the table's order: int64."""
        held_out = (self.fold >= 0) & (self.fold == fold)
        if split == "val":
            chosen = held_out | (self.split == "val")
        else:
            chosen = (self.split == split) & ~held_out
        return np.flatnonzero(chosen)

    @property
    def num_folds(self) -> int:
        """How many folds there are; 0 without k-fold."""
        return int(self.fold.max(initial=-1)) + 1

    def spread(self, rows: np.ndarray, count: int) -> SplitAssignment:
        """The assignment of a table of `count` rows, of which `rows` are this one's.

        The others are in no split.
        """
        split = np.full(count, "", dtype="<U5")
        fold = np.full(count, -1, dtype=np.int64)
        split[rows], fold[rows] = self.split, self.fold
        return replace(self, split=split, fold=fold)


def assign_splits(
    table: SampleTable, *, val_size: float, test_size: float, folds: int, seed: int
) -> SplitAssignment:
    """Divide the table. Splits and folds that the source gives win; no group is divided.

    A missing val split is taken from train; a missing test split only when none is given at all.
    Raises DataError when a class has nothing to train on, nothing can be validated, a class has
    fewer pictures than there are folds, or what the source gives divides a group.
    """
    split = split_array(table.splits or Texts.repeated("train", len(table)))
    fold = np.full(len(table), -1, dtype=np.int64)
    notes = table.notes
    take = take_group_share if has_groups(table) else _take_share
    if table.splits is None and table.folds is None:
        take(table, split, "test", test_size, seed=seed)
    if table.folds is not None:
        notes += _take_folds(table.name, table.folds, split, fold, folds)
    elif folds and (split != "test").any():
        split[split == "val"] = "train"
        pool = np.flatnonzero(split == "train")
        deal = deal_group_folds if has_groups(table) else _deal_folds
        notes += deal(table, pool, fold, folds, seed)
    elif not (split == "val").any():
        take(table, split, "val", val_size, seed=seed)
    check_groups_whole(table, split, fold)
    notes += _absent(table, split, ("test",) if folds else ("val", "test"))
    assignment = SplitAssignment(split, fold, _splitter(table, folds), notes)
    _check_trainable(table, assignment, val_size)
    return assignment


def _splitter(table: SampleTable, folds: int) -> str:
    """How a table is divided, in words."""
    how = "stratified by hash" + (", by whole groups" if has_groups(table) else "")
    if table.folds is not None:
        return "folds given by the data"
    if folds:
        name = "StratifiedGroupKFold" if has_groups(table) else "StratifiedKFold"
        return f"{name}({folds})" + ("" if table.splits is None else ", test split given")
    if table.splits is None:
        return how
    return "given by the data" + ("" if "val" in table.splits else f", val taken from train, {how}")


def assignment_from_rows(
    table: SampleTable, rows: Iterable[Mapping[str, str]], *, strict: bool = True
) -> SplitAssignment:
    """The assignment that a run's splits.csv holds, matched by key.

    Raises DataError for damaged rows, and when pictures have gone, come, or changed their class
    since; without `strict` new pictures belong to no split and the others keep theirs.
    """
    try:
        recorded = last_of_paths(TextRows.of(rows, _NEEDED)).columns
        fold_of = {text: int(text or -1) for text in recorded["fold"].distinct()}
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise DataError(
            f"splits.csv of the run is damaged ({error}); put back the file that the run began with"
        ) from error
    row_of = matches(table.keys, recorded["path"])
    if strict:
        _require_same(table, recorded, row_of)
    found = row_of >= 0
    split = np.full(len(table), "", dtype="<U5")
    fold = np.full(len(table), -1, dtype=np.int64)
    if found.any():
        split[found] = split_array(recorded["split"].select(row_of[found]))
        codes, texts = recorded["fold"].select(row_of[found]).factorized()
        fold[found] = np.array([fold_of[text] for text in texts], np.int64)[codes]
    return SplitAssignment(split, fold, _splitter(table, int(fold.max(initial=-1)) + 1))


def _require_same(table: SampleTable, recorded: Mapping[str, Texts], row_of: np.ndarray) -> None:
    """Raise DataError where the table's pictures are not the recorded ones, of the same classes."""
    gone = np.ones(len(recorded["path"]), bool)
    gone[row_of[row_of >= 0]] = False
    for what, keys, rows in (
        ("are gone", recorded["path"], np.flatnonzero(gone)),
        ("are new", table.keys, np.flatnonzero(row_of < 0)),
    ):
        if len(rows):
            shown = ", ".join(keys.select(rows[:_SHOWN])) + (", ..." if len(rows) > _SHOWN else "")
            raise DataError(
                f"{table.name}: {len(rows)} pictures {what} since the run began: {shown}; "
                "put the data back as it was, say where it is now by --data, or begin a new run"
            )
    number = {name: label for label, name in enumerate(table.class_names)}
    codes, names = recorded["label"].select(row_of).factorized()
    before = np.array([number.get(name, -1) for name in names], np.int64)[codes]
    for row in np.flatnonzero(before != table.labels)[:1].tolist():
        raise DataError(
            f"{table.name}: {table.keys[row]} was of class {names[codes[row]]!r} when the run "
            f"began and is now of class {table.class_names[table.labels[row]]!r}"
        )


def split_rows(table: SampleTable, assignment: SplitAssignment) -> TextRows:
    """The rows of splits.csv: path, label, group, split, fold (empty outside k-fold), sha256.

    sha256: of the picture as it is encoded, empty where it was not read.
    """
    unknown = Texts.repeated("", len(table))
    split, splits = split_codes(assignment.split)
    folds = ["", *map(str, range(assignment.num_folds))]
    return TextRows(
        {
            "path": table.keys,
            "label": Texts.numbered(table.labels, table.class_names),
            "group": table.groups or unknown,
            "split": Texts.numbered(split, splits),
            "fold": Texts.numbered(np.maximum(assignment.fold, -1) + 1, folds),
            "sha256": table.digests or unknown,
        }
    )


def _hash_order(table: SampleTable, rows: np.ndarray, seed: int) -> np.ndarray:
    return np.asarray(rows[hash_order(table.keys.select(rows), seed)])


def _take_share(
    table: SampleTable, split: np.ndarray, name: str, share: float, *, seed: int
) -> None:
    """Move `share` of each class's pictures from train to split `name`, in place."""
    if share == 0.0:
        return
    pool = np.flatnonzero(split == "train")
    # all at once: a pass over the table for each of many classes takes hours
    by_class = pool[np.argsort(table.labels[pool], kind="stable")]
    ends = np.cumsum(table.class_counts(pool))
    for own, part in zip(table.class_counts(), np.split(by_class, ends[:-1]), strict=True):
        rows = _hash_order(table, part, seed)
        whole = int(own) if table.splits is None else len(rows)
        # a class of three or more is seen in every split; the last picture stays in train
        count = max(round(whole * share), 1 if whole >= 3 else 0)  # noqa: PLR2004
        split[rows[: min(count, len(rows) - 1)]] = name


def _take_folds(
    name: str, given: np.ndarray, split: np.ndarray, fold: np.ndarray, folds: int
) -> tuple[str, ...]:
    """Take the folds that the source gives, numbered from 0, for all that is not test."""
    given = np.where(split == "test", -1, given)
    numbers = np.unique(given[given >= 0])
    if len(numbers) == 1:
        raise DataError(f"{name}: all pictures are in fold {numbers[0]}; two are needed")
    if folds not in (0, len(numbers)):
        raise DataError(
            f"--folds {folds}: the data's own folds are {len(numbers)}; leave --folds out"
        )
    split[(given >= 0) & (split == "val")] = "train"
    fold[given >= 0] = np.searchsorted(numbers, given[given >= 0])
    if numbers[0] == 0 and numbers[-1] == len(numbers) - 1:
        return ()
    return (f"the data's folds {', '.join(map(str, numbers))} are numbered from 0 here",)


def _deal_folds(
    table: SampleTable, pool: np.ndarray, fold: np.ndarray, folds: int, seed: int
) -> tuple[str, ...]:
    from sklearn.model_selection import StratifiedKFold

    counts = table.class_counts(pool)
    small = [
        f"{name} ({count})"
        for name, count in zip(table.class_names, counts, strict=True)
        if 0 < count < folds
    ]
    if small:
        most = counts[counts > 0].min()
        advice = f"use at most {most} folds or add pictures"
        if most == 1:  # which no number of folds can divide
            advice = "add pictures, leave such classes out, or train without --folds"
        raise DataError(
            f"--folds {folds}: more folds than pictures outside the test split in class "
            f"{shortened(small)}; {advice}"
        )
    # dealt in hash order, so that the order of files cannot matter
    ordered = _hash_order(table, pool, seed)
    splitter = StratifiedKFold(n_splits=folds)
    for number, (_, held_out) in enumerate(splitter.split(ordered, table.labels[ordered])):
        fold[ordered[held_out]] = number
    return ()


def _absent(table: SampleTable, split: np.ndarray, names: Sequence[str]) -> tuple[str, ...]:
    """The classes that a split which was made here lacks."""
    notes = []
    for name in () if table.splits is not None else names:
        if not (split == name).any():
            continue
        counts = table.class_counts(np.flatnonzero(split == name))
        absent = [c for c, n in zip(table.class_names, counts, strict=True) if n == 0]
        if absent:
            notes.append(f"too few pictures to put one into the {name} split: {shortened(absent)}")
    return tuple(notes)


def _check_trainable(table: SampleTable, assignment: SplitAssignment, val_size: float) -> None:
    if len(table.class_names) == 1:
        raise DataError(
            f"{table.name}: only one class, {table.class_names[0]!r}; a classifier needs at least "
            "two with pictures"
        )
    for number in range(max(assignment.num_folds, 1)):
        where = f"fold {number}'s train split" if assignment.num_folds else "the train split"
        counts = table.class_counts(assignment.indices("train", number))
        untrained = [c for c, n in zip(table.class_names, counts, strict=True) if n == 0]
        if untrained:
            raise DataError(
                f"{table.name}: nothing to train on for class {shortened(untrained)}; every class "
                f"needs a picture in {where}"
            )
    if not len(assignment.indices("val")):
        largest = table.class_counts().max()
        if not val_size:
            advice = "give --val-size above 0, a val folder, or --folds"
        elif has_groups(table):
            advice = "divide it into more groups, or bring a val split of your own"
        elif largest == 1:
            advice = "no class has more than one; add some, or bring a val folder"
        else:
            advice = (
                f"no class has more than {largest} pictures; add some, bring a val folder, or "
                f"raise --val-size ({val_size:g} now)"
            )
        raise DataError(f"{table.name}: no picture is left to validate on; {advice}")
