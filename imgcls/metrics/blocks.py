"""Slices of large arrays, so that temporary copies stay a few tens of MiB whatever the data."""

from __future__ import annotations

from collections.abc import Iterator

CELLS_PER_BLOCK = 1 << 22


def blocks(count: int, cells_each: int, fewest: int = 1) -> Iterator[slice]:
    """Slices that cover `count` rows (or columns) of `cells_each` cells, at least `fewest` each."""
    step = max(fewest, CELLS_PER_BLOCK // max(1, cells_each))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
