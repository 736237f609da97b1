"""Rows of texts, kept by column: what a list of dicts says, in a tenth of its memory."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np

from imgcls.columns.texts import BLOCK, Texts

Row = Mapping[str, str]


class TextRows(Sequence[Row]):
    """N rows, never changed; a row is a dict of its texts that is made when it is asked for.

    columns: the texts of each column, all N of them.
    """

    def __init__(self, columns: Mapping[str, Texts]) -> None:
        self.columns = columns

    @classmethod
    def of(cls, rows: Iterable[Row]) -> TextRows:
        """These rows by column; "" where a row lacks a column that others have."""
        if isinstance(rows, TextRows):
            return rows
        every = list(rows)
        titles = dict.fromkeys(title for row in every for title in row)
        return cls({t: Texts.of(row.get(t) or "" for row in every) for t in titles})

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
