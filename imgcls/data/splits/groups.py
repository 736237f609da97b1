"""Dividing pictures by groups (patient, plant, video), none of which may be divided itself."""

from __future__ import annotations

import hashlib
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgcls.columns.texts import Texts
from imgcls.data.table import SampleTable
from imgcls.errors import DataError

_SHOWN = 10
# so many groups of a class let each of train, val and test have one
_SPLITS = 3


def split_array(splits: Texts) -> np.ndarray:
    """The split of each row: <U5 [N]."""
    codes, words = splits.factorized()
    return np.asarray(np.array(words, dtype="<U5")[codes])


def split_codes(split: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """(each row's number among the splits, int16 [N], and their names)."""
    names = ["", "train", "val", "test"]
    codes = np.full(len(split), -1, np.int16)
    for number, name in enumerate(names):
        codes[split == name] = number
    others = np.flatnonzero(codes < 0)  # as a program may have given them
    more, own = np.unique(split[others], return_inverse=True)
    codes[others] = len(names) + own
    return codes, [*names, *more.tolist()]


@dataclass(frozen=True, eq=False)
class Groups:
    """G groups of rows: group g has rows[starts[g] : starts[g + 1]], int64, rising.

    Its classes and how many rows each has are classes and counts, at[g] to at[g + 1], int64.
    """

    rows: np.ndarray
    starts: np.ndarray
    classes: np.ndarray
    counts: np.ndarray
    at: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows_of(self, group: int) -> np.ndarray:
        """A group's rows."""
        return self.rows[self.starts[group] : self.starts[group + 1]]

    def classes_of(self, group: int) -> tuple[np.ndarray, np.ndarray]:
        """(the classes of a group, how many rows each has in it)."""
        part = slice(self.at[group], self.at[group + 1])
        return self.classes[part], self.counts[part]


def has_groups(table: SampleTable) -> bool:
    """True when the table ties any pictures together."""
    return table.groups is not None and len(table.groups.empty_rows()) < len(table)


def seeded_hash(seed: int, name: str) -> bytes:
    """Orders names, the same way on every machine: macOS composes accents otherwise."""
    return hashlib.sha256(f"{seed}/{unicodedata.normalize('NFC', name)}".encode()).digest()


def hash_order(names: Texts, seed: int) -> np.ndarray:
    """The places of the names, in the order of their seeded hashes: int64 [N]."""
    hashes = (int.from_bytes(seeded_hash(seed, name)[:8], "big") for name in names)
    words = np.fromiter(hashes, np.uint64, len(names))
    order = np.argsort(words, kind="stable")
    # eight bytes tell all but a few of very many apart
    words = words[order]
    tied = np.flatnonzero(words[1:] == words[:-1])
    for run in np.split(tied, np.flatnonzero(np.diff(tied) != 1) + 1) if len(tied) else ():
        part = slice(run[0], run[-1] + 2)
        order[part] = sorted(order[part], key=lambda row: (seeded_hash(seed, names[row]), row))
    return order


def groups_in_hash_order(table: SampleTable, rows: np.ndarray, seed: int) -> Groups:
    """The groups among `rows`, by a hash of (seed, name); a row without one is its own group."""
    code, names = _named(table, rows)
    # each row's place by the hash of its group
    place = np.argsort(hash_order(names, seed))[code]
    by_place = np.argsort(place, kind="stable")
    sizes = np.bincount(place, minlength=len(names))
    classes = len(table.class_names)
    pairs, counts = np.unique(place * classes + table.labels[rows], return_counts=True)
    return Groups(
        rows=rows[by_place],
        starts=np.concatenate([[0], np.cumsum(sizes)]),
        classes=pairs % classes,
        counts=counts,
        at=np.searchsorted(pairs // classes, np.arange(len(names) + 1)),
    )


def _named(table: SampleTable, rows: np.ndarray) -> tuple[np.ndarray, Texts]:
    """(the number of each row's group, the names of the groups, sorted)."""
    assert table.groups is not None
    groups = table.groups.select(rows)
    alone = groups.empty_rows()
    if len(alone):
        # a file name holds no NUL, so no group is mistaken for a picture on its own
        own = table.keys.select(rows[alone]).mapped(lambda key: f"\0{key}")
        groups = groups.replaced(alone, own)
    return groups.factorized()


class _Shares:
    """How far each class is from its share of a split, and what it has left in train.

    left: int64 [C]; missing: float64 [C], in pictures; weight: float64 [C].
    """

    def __init__(self, groups: Groups, left: np.ndarray, whole: np.ndarray, share: float) -> None:
        self._groups = groups
        self._left = left
        self._missing = share * whole
        self._weight = 1.0 / np.maximum(whole, 1) ** 2

    def cost(self, group: int) -> float:
        """How much farther they get when a group moves; inf where that would use one up."""
        classes, counts = self._groups.classes_of(group)
        if len(classes) == 1:  # as most of very many have: the same without arrays
            only, count = int(classes[0]), int(counts[0])
            now, then = float(self._missing[only]), float(self._missing[only]) - count
            if self._left[only] <= count:
                return float("inf")
            return (then * then - now * now) * float(self._weight[only])
        if (self._left[classes] <= counts).any():
            return float("inf")
        before, after = self._missing[classes], self._missing[classes] - counts
        return float(((after**2 - before**2) * self._weight[classes]).sum())

    def move(self, group: int) -> None:
        """Take note of a group that moves."""
        classes, counts = self._groups.classes_of(group)
        self._left[classes] -= counts
        self._missing[classes] -= counts


def take_group_share(
    table: SampleTable, split: np.ndarray, name: str, share: float, *, seed: int
) -> None:
    """Move whole groups with about `share` of each class from train to split `name`, in place.

    In hash order, a group moves when that brings the classes nearer to their shares. A class of
    three or more groups is seen in the split, and no class loses its last group in train.
    """
    if share == 0.0:
        return
    pool = trained = np.flatnonzero(split == "train")
    groups = groups_in_hash_order(table, trained, seed)
    if table.splits is None:
        pool = np.arange(len(table))
    shares = _Shares(groups, table.class_counts(trained), table.class_counts(pool), share)

    def take(group: int) -> None:
        split[groups.rows_of(group)] = name
        shares.move(group)

    for group in range(len(groups)):
        if shares.cost(group) < 0:
            take(group)
    for label in np.flatnonzero(_groups_of_classes(table, pool) >= _SPLITS):
        own = np.searchsorted(groups.at, np.flatnonzero(groups.classes == label), "right") - 1
        if not (split[groups.rows[groups.starts[own]]] == name).any():
            costs = [(shares.cost(group), group) for group in own.tolist()]
            best = min(costs, default=(float("inf"), -1))
            if best[0] < float("inf"):
                take(best[1])


def deal_group_folds(
    table: SampleTable, pool: np.ndarray, fold: np.ndarray, folds: int, seed: int
) -> tuple[str, ...]:
    """Deal the rows of `pool` to folds by scikit-learn's StratifiedGroupKFold; what to note.

    Raises DataError when there are fewer groups than folds, or a class has one group only.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = groups_in_hash_order(table, pool, seed)
    counts, per_class = table.class_counts(pool), _groups_of_classes(table, pool)
    if len(groups) < folds:
        raise DataError(f"--folds {folds}: more folds than groups, which are {len(groups)}")
    named = [
        (f"{name} ({pictures} pictures in {own} group{'s' if own > 1 else ''})", own)
        for name, pictures, own in zip(table.class_names, counts, per_class, strict=True)
    ]
    alone = [text for text, own in named if own == 1]
    if alone:
        raise DataError(
            f"--folds {folds}: a class in one group only cannot be both trained on and validated: "
            f"{', '.join(alone[:_SHOWN])}"
        )
    if counts.max() < folds:
        raise DataError(f"--folds {folds}: more folds than pictures of any class")
    # in hash order, so that the order of files cannot matter
    rows, numbers = groups.rows, np.repeat(np.arange(len(groups)), np.diff(groups.starts))
    splitter = StratifiedGroupKFold(n_splits=folds)
    with warnings.catch_warnings():
        # of classes with fewer pictures than folds; the note below names them
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, held_out) in enumerate(splitter.split(rows, table.labels[rows], numbers)):
            fold[rows[held_out]] = number
    if len(np.unique(fold[rows])) < folds:
        raise DataError(f"--folds {folds}: the groups are too unequal to fill them; use fewer")
    few = [text for text, own in named if 0 < own < folds]
    if not few:
        return ()
    return (f"fewer groups than folds, so not in every fold's val: {', '.join(few[:_SHOWN])}",)


def check_groups_whole(table: SampleTable, split: np.ndarray, fold: np.ndarray) -> None:
    """Raise DataError when a group of the table stands in two splits or two folds."""
    if table.groups is None:
        return
    named = np.delete(np.arange(len(table)), table.groups.empty_rows())
    if not len(named):
        return
    code, names = table.groups.select(named).factorized()
    own, splits = split_codes(split[named])
    # a fold stands for its rows' split
    places = np.where(fold[named] < 0, own.astype(np.int64), fold[named] + len(splits))
    first = np.empty(len(names), np.int64)
    first[code[::-1]] = named[::-1]
    of_group = np.empty(len(names), np.int64)
    of_group[code] = places
    divided = np.unique(code[places != of_group[code]])
    if len(divided):
        told = [
            f"{names[c]!r} ({', '.join(sorted(_places(splits, np.unique(places[code == c]))))})"
            for c in divided[np.argsort(first[divided])][: _SHOWN + 1].tolist()
        ]
        raise DataError(
            f"{table.name}: {len(divided)} groups stand in more than one split or fold: "
            f"{_shown(told)}; mend the table, or leave its groups out"
        )


def _places(splits: Sequence[str], numbers: np.ndarray) -> list[str]:
    count = len(splits)
    return [splits[n] if n < count else f"fold {n - count}" for n in numbers.tolist()]


def _shown(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (", ..." if len(texts) > _SHOWN else "")


def _groups_of_classes(table: SampleTable, rows: np.ndarray) -> np.ndarray:
    """The number of groups that each class occurs in: int64 [C]."""
    code, _ = _named(table, rows)
    classes = len(table.class_names)
    pairs = np.unique(code.astype(np.int64) * classes + table.labels[rows])
    return np.bincount(pairs % classes, minlength=classes)
