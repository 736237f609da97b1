"""A repaired manifest: harmful rows left out, duplicates put into one group."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from imgcls.data.audit.audit import Audit
from imgcls.data.audit.duplicates import linked
from imgcls.data.audit.sets import group_sets, near_sets, straddling

# where a picture stands in two splits, the more held out of them keeps it
_KEEPS = ("test", "val", "train")


@dataclass(frozen=True, eq=False)
class FixedRows:
    """The rows to keep, int64 [K]; each row's group, N names or None where nothing is tied.

    folds: int64 [N], the folds with what is tied in one, or None where none are given. dropped: how
    many rows went, by reason.
    """

    keep: np.ndarray
    groups: tuple[str, ...] | None
    folds: np.ndarray | None
    dropped: dict[str, int]


def fixed_rows(audit: Audit) -> FixedRows:
    """The rows to keep, and a group for each set of duplicates.

    Goes: what cannot be read; identical content under two labels; and, where splits are given, what
    has a duplicate, near duplicate or member of its group in a more held-out split. Copies, near
    duplicates and given groups that meet become one group, and come into one of the given folds.
    """
    table, count = audit.table, len(audit.table)
    conflicting = {row for rows in straddling(table.labels, audit.same) for row in rows}
    gone = conflicting | audit.unreadable.keys()
    links = [*audit.same, *near_sets(audit), *group_sets(table)]
    rest = [kept for rows in links if len(kept := [r for r in rows if r not in gone]) > 1]
    together = linked(count, rest)
    held_out = {row for rows in together for row in _less_held_out(audit, rows)}
    groups = list(table.groups or [""] * count)
    folds = None if table.folds is None else table.folds.copy()
    for rows in together:
        if folds is not None:
            folds[list(rows)] = folds[next((r for r in rows if r not in held_out), rows[0])]
        name = next((groups[row] for row in rows if groups[row]), table.keys[rows[0]])
        for row in rows:
            groups[row] = name
    # a row without a group is a group of its own
    groups = [group or key for group, key in zip(groups, table.keys, strict=True)]
    dropped = Counter(
        {
            "unreadable": len(audit.unreadable),
            "label_conflict": len(conflicting),
            "in_another_split": len(held_out),
        }
    )
    return FixedRows(
        keep=np.array(sorted(set(range(count)) - gone - held_out), dtype=np.int64),
        folds=folds,
        groups=tuple(groups) if together or table.groups is not None else None,
        dropped=dict(+dropped),
    )


def _less_held_out(audit: Audit, rows: tuple[int, ...]) -> list[int]:
    if audit.table.splits is None:
        return []
    splits = {row: audit.table.splits[row] or "train" for row in rows}
    keeps = next(name for name in _KEEPS if name in splits.values())
    return [row for row, split in splits.items() if split != keeps]
