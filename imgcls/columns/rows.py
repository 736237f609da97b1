"""Rows of texts, kept by column: what a list of dicts says, in a tenth of its memory."""

from __future__ import annotations

import operator
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np

from imgcls.columns.texts import BLOCK, Texts, alike

Row = Mapping[str, str]


class TextRows(Sequence[Row]):
    """N rows, never changed; a row is a dict of its texts that is made when it is asked for.

    columns: the texts of each column, all N of them.
    """

    def __init__(self, columns: Mapping[str, Texts]) -> None:
        self.columns = columns

    @classmethod
    def of(cls, rows: Iterable[Row], needed: Sequence[str] = ()) -> TextRows:
        """These rows by column; "" where a row lacks a column that others have, or has None there.

        Raises KeyError where it lacks one that is needed, TypeError for what is no text.
        """
        if not isinstance(rows, TextRows):
            every = list(rows)
            for row in every:
                _check(row, needed)
            titles = dict.fromkeys([*needed, *(title for row in every for title in row)])
            rows = cls({t: Texts.of(row.get(t) or "" for row in every) for t in titles})
        _check(rows.columns, needed)
        return rows

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> TextRows: ...

    def __getitem__(self, index: int | slice) -> Row | TextRows:
        if isinstance(index, slice):
            return TextRows({title: texts[index] for title, texts in self.columns.items()})
        return {title: texts[index] for title, texts in self.columns.items()}

    def __iter__(self) -> Iterator[Row]:
        titles = tuple(self.columns)
        for start in range(0, len(self), BLOCK):
            blocks = [list(texts[start : start + BLOCK]) for texts in self.columns.values()]
            for cells in zip(*blocks, strict=True):
                yield dict(zip(titles, cells, strict=True))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (TextRows, list)):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def select(self, rows: np.ndarray) -> TextRows:
        """These rows, integers [K] from 0."""
        return TextRows({title: texts.select(rows) for title, texts in self.columns.items()})

    def replaced(self, **columns: Texts) -> TextRows:
        """The rows with other texts in these columns."""
        return TextRows({**self.columns, **columns})

    def sorted_by(self, title: str) -> TextRows:
        """The rows in the order of a column's texts, equal ones in their order."""
        return self.select(self.columns[title].order())


def _check(row: Mapping[str, object], needed: Sequence[str]) -> None:
    for title in needed:
        if not isinstance(row[title], (str, Texts, type(None))):
            raise TypeError(f"{title} is {row[title]!r}, no text")


def last_of_paths(rows: TextRows) -> TextRows:
    """The rows with the last one of each path alone, at the place of its first."""
    paths = rows.columns["path"]
    at = np.arange(len(rows))
    repeats = []
    for same in alike(paths, len(paths)):
        first: dict[str, int] = {}
        for row in same.tolist():
            place = first.setdefault(paths[row], row)
            at[place] = row
            if place != row:
                repeats.append(row)
    return rows.select(np.delete(at, repeats)) if repeats else rows


def matches(wanted: Texts, among: Texts) -> np.ndarray:
    """The row of `among` that has each wanted text, -1 where none has it: int64 [len(wanted)].

    No text comes twice in either.
    """
    if wanted == among:
        return np.arange(len(wanted))
    places, found = array("q"), array("q")
    order, other = wanted.order(), among.order()
    theirs = enumerate(among.select(other))
    row, text = next(theirs, (-1, None))
    for place, own in enumerate(wanted.select(order)):
        while text is not None and text < own:
            row, text = next(theirs, (-1, None))
        if text == own:
            places.append(place)
            found.append(row)
    rows = np.full(len(wanted), -1)
    rows[order[np.array(places, np.int64)]] = other[np.array(found, np.int64)]
    return rows
