"""Sorts packed texts by eight bytes at a time, without a Python object for any of them."""

from __future__ import annotations

import numpy as np

_WORD = 8
_ROWS = 2**18


def sorted_rows(data: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the rows sorted by their texts, bool [N]: is it another text than the one before).

    data: uint8 of all texts' UTF-8, whose order is that of code points; ends: [N + 1]. Equal
    texts stay in their order. About 50 bytes a row are needed meanwhile.
    """
    count = len(ends) - 1
    kind = np.int32 if count < 2**31 else np.int64
    lengths = np.diff(ends)
    order = np.arange(count, dtype=kind)
    fresh = np.zeros(count, bool)
    fresh[:1] = True
    # places in `order` that are not told apart yet, whole runs of equal beginnings
    tied = np.arange(count if count > 1 else 0, dtype=kind)
    begin = 0
    while len(tied):
        rows = order[tied]
        _arrange(order, fresh, tied, _words(data, ends, rows, begin), rows)
        begin += _WORD
        tied = _still_tied(fresh, tied, order, lengths, begin)
    # nothing but NULs at their ends tells these apart: the shorter comes first
    tied = _runs(fresh, np.arange(count, dtype=kind))
    if len(tied):
        rows = order[tied]
        _arrange(order, fresh, tied, lengths[rows], rows)
    return order, fresh


def _arrange(
    order: np.ndarray, fresh: np.ndarray, tied: np.ndarray, words: np.ndarray, rows: np.ndarray
) -> None:
    """Sort the runs at these places by words, and mark where a run divides; in place."""
    if (words == words[0]).all():
        return
    by = np.lexsort((words, np.cumsum(fresh, dtype=order.dtype)[tied]))
    order[tied] = rows[by]
    words = words[by]
    fresh[tied[1:]] |= words[1:] != words[:-1]


def _runs(fresh: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Those of these places that are in a run of two or more."""
    last = np.append(fresh[1:], True)
    runs: np.ndarray = places[~(fresh[places] & last[places])]
    return runs


def _still_tied(
    fresh: np.ndarray, tied: np.ndarray, order: np.ndarray, lengths: np.ndarray, begin: int
) -> np.ndarray:
    """The places in runs of two or more of which any has bytes from `begin` on."""
    tied = _runs(fresh, tied)
    if not len(tied):
        return tied
    starts = np.flatnonzero(fresh[tied])
    longest = np.maximum.reduceat(lengths[order[tied]], starts)
    sizes = np.diff(np.append(starts, len(tied)))
    return tied[np.repeat(longest > begin, sizes)]


def _words(data: np.ndarray, ends: np.ndarray, rows: np.ndarray, begin: int) -> np.ndarray:
    """Eight bytes of each of these rows' texts from byte `begin` on, zeros behind the end."""
    words = np.zeros(len(rows), np.uint64)
    for first in range(0, len(rows), _ROWS):
        part = rows[first : first + _ROWS]
        at, stop = ends[part].astype(np.int64) + begin, ends[part + 1].astype(np.int64)
        word = np.zeros(len(part), np.uint64)
        for _ in range(_WORD):
            own = data[np.minimum(at, len(data) - 1)].astype(np.uint64) if len(data) else word
            word = (word << np.uint64(8)) | np.where(at < stop, own, np.uint64(0))
            at += 1
        words[first : first + _ROWS] = word
    return words
