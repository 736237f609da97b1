"""Sets of rows that belong together, and those that lie in several splits, folds or classes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from imgcls.data.audit.audit import Audit
from imgcls.data.table import SampleTable

RowSets = list[tuple[int, ...]]


def straddling(
    values: Sequence[object] | np.ndarray | None, sets: Iterable[Sequence[int]]
) -> RowSets:
    """The sets whose rows have more than one value, such as a split; none without values."""
    if values is None:
        return []
    return [tuple(rows) for rows in sets if len({values[row] for row in rows}) > 1]


def places(table: SampleTable) -> list[tuple[object, ...]] | None:
    """The split and fold that the table gives each row, None where it gives neither."""
    given = [values for values in (table.splits, table.folds) if values is not None]
    return list(zip(*given, strict=True)) or None


def group_sets(table: SampleTable) -> list[list[int]]:
    """The rows of each group that the table gives."""
    by_group: defaultdict[str, list[int]] = defaultdict(list)
    for row, group in enumerate(table.groups or ()):
        if group:
            by_group[group].append(row)
    return list(by_group.values())


def near_sets(audit: Audit) -> RowSets:
    """The pairs of near duplicates."""
    return [(int(one), int(other)) for one, other in audit.near]
