"""Texts that end in a number, such as the lines of a file, made when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex, overload

import numpy as np

from imgcls.columns.texts import Texts


class Numbered(Sequence[str]):
    """N texts of a word and a number each: "line 7". words: N texts; numbers: integers [N]."""

    def __init__(self, words: Texts, numbers: np.ndarray) -> None:
        self._words = words
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Numbered: ...

    def __getitem__(self, index: SupportsIndex | slice) -> str | Numbered:
        if isinstance(index, slice):
            return Numbered(self._words[index], self._numbers[index])
        return f"{self._words[index]}{self._numbers[index]}"

    def select(self, rows: np.ndarray) -> Numbered:
        """The texts of these rows, integers [K] from 0."""
        return Numbered(self._words.select(rows), self._numbers[rows])
