"""Dividing pictures by groups (patient, plant, video), none of which may be divided itself."""

from __future__ import annotations

import hashlib
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imgcls.data.table import SampleTable
from imgcls.errors import DataError

_SHOWN = 10
# so many groups of a class let each of train, val and test have one
_SPLITS = 3


@dataclass(frozen=True, eq=False)
class Group:
    """The rows of a group, int64; the classes among them and how many rows each has."""

    rows: np.ndarray
    classes: np.ndarray
    counts: np.ndarray


def has_groups(table: SampleTable) -> bool:
    """True when the table ties any pictures together."""
    return table.groups is not None and any(table.groups)


def seeded_hash(seed: int, name: str) -> bytes:
    """Orders names, the same way on every machine: macOS composes accents otherwise."""
    return hashlib.sha256(f"{seed}/{unicodedata.normalize('NFC', name)}".encode()).digest()


def groups_in_hash_order(table: SampleTable, rows: np.ndarray, seed: int) -> list[Group]:
    """The groups among `rows`, by a hash of (seed, name); a row without one is its own group."""
    names = [(table.groups or ())[row] for row in rows]
    # a file name holds no NUL, so no group is mistaken for a picture on its own
    names = [name or f"\0{table.keys[row]}" for name, row in zip(names, rows, strict=True)]
    _, first, code = np.unique(names, return_index=True, return_inverse=True)
    hashes = [seeded_hash(seed, names[row]) for row in first]
    by_code = np.split(rows[np.argsort(code, kind="stable")], np.cumsum(np.bincount(code))[:-1])
    return [
        Group(by_code[c], *np.unique(table.labels[by_code[c]], return_counts=True))
        for c in sorted(range(len(hashes)), key=hashes.__getitem__)
    ]


def take_group_share(
    table: SampleTable, split: np.ndarray, name: str, share: float, *, seed: int
) -> None:
    """Move whole groups with about `share` of each class from train to split `name`, in place.

    In hash order, a group moves when that brings the classes nearer to their shares. A class of
    three or more groups is seen in the split, and no class loses its last group in train.
    """
    if share == 0.0:
        return
    groups = groups_in_hash_order(table, np.flatnonzero(split == "train"), seed)
    pool = np.arange(len(table)) if table.splits is None else np.flatnonzero(split == "train")
    whole = table.class_counts(pool)
    left = table.class_counts(np.flatnonzero(split == "train"))
    missing = share * whole
    weight = 1.0 / np.maximum(whole, 1) ** 2

    def cost(group: Group) -> float:
        """How much farther the classes get from their shares; inf where one would be used up."""
        if (left[group.classes] <= group.counts).any():
            return float("inf")
        before, after = missing[group.classes], missing[group.classes] - group.counts
        return float(((after**2 - before**2) * weight[group.classes]).sum())

    def take(group: Group) -> None:
        split[group.rows] = name
        left[group.classes] -= group.counts
        missing[group.classes] -= group.counts

    for group in groups:
        if cost(group) < 0:
            take(group)
    for label in np.flatnonzero(_groups_of_classes(table, pool) >= _SPLITS):
        own = [g for g in groups if label in g.classes]
        if not any(split[g.rows[0]] == name for g in own):
            best = min((g for g in own if cost(g) < float("inf")), key=cost, default=None)
            if best is not None:
                take(best)


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
    rows = np.concatenate([group.rows for group in groups])
    numbers = np.repeat(np.arange(len(groups)), [len(group.rows) for group in groups])
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
    places: dict[str, set[str]] = {}
    for group, own, number in zip(table.groups or (), split, fold, strict=False):
        if group:
            place = str(own) if number < 0 else f"fold {number}"
            places.setdefault(group, set()).add(place)
    divided = [f"{g!r} ({', '.join(sorted(p))})" for g, p in places.items() if len(p) > 1]
    if divided:
        raise DataError(
            f"{table.name}: {len(divided)} groups stand in more than one split or fold: "
            f"{_shown(divided)}; mend the table, or leave its groups out"
        )


def _shown(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (", ..." if len(texts) > _SHOWN else "")


def _groups_of_classes(table: SampleTable, rows: np.ndarray) -> np.ndarray:
    """The number of groups that each class occurs in: int64 [C]."""
    groups = groups_in_hash_order(table, rows, 0)
    classes = np.concatenate([group.classes for group in groups])
    return np.bincount(classes, minlength=len(table.class_names))
