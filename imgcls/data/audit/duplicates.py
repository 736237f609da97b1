"""Duplicates by content hash, and near duplicates by the pictures' low frequencies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from imgcls.data.audit.picture import contrast_of

# what JPEG's rounding may change in a flat picture, in grey levels, and what re-encoding and
# halving may change beyond that, as a share of the contrast; tests/benchmarks/near_duplicates.py
# measures what they find and what they take for the same wrongly
_ROUNDING = 1.3
_CHANGE = 0.1
# two nearly plain pictures differ by about their contrast; closer ones are the same
_MOST_OF_CONTRAST = 0.8
# each picture is compared with so many of the most similar ones
_NEIGHBOURS = 16
_ROWS_A_QUERY = 4096


def same_content(digests: Sequence[bytes]) -> list[list[int]]:
    """Groups of two and more rows with one content; rows without a digest are left out."""
    rows: defaultdict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        if digest:
            rows[digest].append(row)
    return [group for group in rows.values() if len(group) > 1]


def near_pairs(rows: np.ndarray, signatures: np.ndarray) -> np.ndarray:
    """Pairs of rows that show nearly the same picture: int64 [P, 2], each pair once, sorted.

    rows: int64 [N], the row of each signature; signatures: float32 [N, 72] of `signature_of`.
    Two pictures are near when their signatures differ by less than 1.3 grey levels and a tenth of
    the smaller contrast, and by less than 0.8 of that contrast. A k-d tree finds
    them, which with such short distances costs about N log N; each picture is compared with its 16
    nearest ones.
    """
    if len(rows) < 2:  # noqa: PLR2004
        return np.empty((0, 2), dtype=np.int64)
    contrast = contrast_of(signatures)
    reach = np.minimum(_ROUNDING + _CHANGE * contrast, _MOST_OF_CONTRAST * contrast)
    tree = cKDTree(signatures)
    found: list[np.ndarray] = []
    # pictures of like contrast together, since a query has one bound for all its points
    order = np.argsort(reach)
    for start in range(0, len(order), _ROWS_A_QUERY):
        part = order[start : start + _ROWS_A_QUERY]
        distances, others = tree.query(
            signatures[part],
            k=min(_NEIGHBOURS + 1, len(rows)),
            distance_upper_bound=float(reach[part].max()),
            workers=-1,
        )
        one = np.broadcast_to(part[:, None], others.shape)
        real = others < len(rows)
        one, other, distance = one[real], others[real], distances[real]
        near = (one != other) & (distance <= np.minimum(reach[one], reach[other]))
        found.append(np.stack([rows[one[near]], rows[other[near]]], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0)


def linked(count: int, links: Iterable[Sequence[int]]) -> list[tuple[int, ...]]:
    """Groups of two and more of `count` rows that links connect, directly or through others.

    links: rows that belong together.
    """
    pairs = [(group[0], other) for group in links for other in group[1:]]
    one, other = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(count, count))
    _, numbers = connected_components(graph, directed=False)
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    return [tuple(group.tolist()) for group in groups if len(group) > 1]
