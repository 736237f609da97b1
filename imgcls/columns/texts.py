"""Columns of texts that take few bytes a row, where a tuple of Python's takes about a hundred."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, SupportsIndex, overload

import numpy as np

from imgcls.columns.packing import ERRORS, Packer, code_type, ends_of, packed
from imgcls.columns.sorting import sorted_rows

# rows that are Python objects at once
BLOCK = 2**14
_SHOWN = 5


class Texts(Sequence[str]):
    """N texts, never changed, and equal to the tuple of them.

    They lie as UTF-8 in one buffer, text i from byte ends[i] to ends[i + 1], which are uint32 below
    4 GiB and int64 above. Of texts that repeat
    the buffer holds each distinct one once, and row i is the one of number codes[i].
    """

    def __init__(self, data: np.ndarray, ends: np.ndarray, codes: np.ndarray | None = None) -> None:
        self._data = data
        self._ends = ends
        self._codes = codes
        self._view = memoryview(data.data)
        self._kept_words: list[str] | None = None

    @classmethod
    def of(cls, texts: Iterable[str]) -> Texts:
        """These texts, taken one block after another; those of a column are that column."""
        if isinstance(texts, Texts):
            return texts
        packer = Packer()
        texts = iter(texts)
        while block := list(itertools.islice(texts, BLOCK)):
            packer.extend(block)
        return cls(*packer.arrays())

    @classmethod
    def numbered(cls, codes: np.ndarray, words: Sequence[str]) -> Texts:
        """The texts words[codes[i]]; codes: integers [N]."""
        return cls(*packed(words), codes.astype(code_type(len(words)), copy=False))

    @classmethod
    def repeated(cls, text: str, count: int) -> Texts:
        """One text in all rows."""
        return cls.numbered(np.zeros(count, np.uint8), (text,))

    @classmethod
    def joined(cls, parts: Sequence[Texts]) -> Texts:
        """The texts of all parts, one behind the other."""
        parts = [part for part in parts if len(part)] or list(parts[:1])
        if len(parts) == 1:
            return parts[0]
        packer = Packer()
        for part in parts:
            for block in part.blocks():
                packer.extend(block)
        return cls(*packer.arrays())

    def __len__(self) -> int:
        return len(self._ends) - 1 if self._codes is None else len(self._codes)

    @overload
    def __getitem__(self, index: SupportsIndex) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Texts: ...

    def __getitem__(self, index: SupportsIndex | slice) -> str | Texts:
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            if step != 1:
                return self.select(np.arange(first, last, step))
            last = max(first, last)
            if self._codes is not None:
                return Texts(self._data, self._ends, self._codes[first:last])
            return Texts(self._data, self._ends[first : last + 1])
        row = operator.index(index)
        row += len(self) if row < 0 else 0
        if not 0 <= row < len(self):
            raise IndexError("row out of range")
        if self._codes is not None:
            return self._words()[int(self._codes[row])]
        return str(self._view[int(self._ends[row]) : int(self._ends[row + 1])], "utf-8", ERRORS)

    def __iter__(self) -> Iterator[str]:
        return itertools.chain.from_iterable(self.blocks())

    def blocks(self) -> Iterator[list[str]]:
        """The texts in their order, 16,384 at once."""
        for start in range(0, len(self), BLOCK):
            if self._codes is not None:
                words = self._words()
                yield [words[code] for code in self._codes[start : start + BLOCK].tolist()]
                continue
            ends = self._ends[start : start + BLOCK + 1].tolist()
            block = self._view[ends[0] : ends[-1]]
            first = ends[0]
            whole = str(block, "utf-8", ERRORS)
            pairs = itertools.pairwise(ends)
            if len(whole) == len(block):
                yield [whole[a - first : b - first] for a, b in pairs]
            else:
                yield [str(block[a - first : b - first], "utf-8", ERRORS) for a, b in pairs]

    def __contains__(self, text: object) -> bool:
        if self._codes is None:
            return any(own == text for own in self)
        codes = [code for code, word in enumerate(self._words()) if word == text]
        return any((self._codes == code).any() for code in codes)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, (Texts, tuple)):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        more = ", ..." if len(self) > _SHOWN else ""
        return f"<{len(self):,} texts: {', '.join(map(repr, self[:_SHOWN]))}{more}>"

    def __reduce__(self) -> tuple[type[Texts], tuple[Any, ...]]:
        first, last = int(self._ends[0]), int(self._ends[-1])
        # a part of a column does not bring all of it along
        return Texts, (self._data[first:last], self._ends - first, self._codes)

    @property
    def nbytes(self) -> int:
        """The bytes that the rows take, without what is shared with other columns."""
        codes = 0 if self._codes is None else self._codes.nbytes
        return int(self._ends[-1] - self._ends[0]) + self._ends.nbytes + codes

    def select(self, rows: np.ndarray) -> Texts:
        """The texts of these rows, integers [K] from 0."""
        if _is_all(rows, len(self)):
            return self
        if self._codes is not None:
            return Texts(self._data, self._ends, self._codes[rows])
        lengths = np.diff(self._ends)[rows]
        ends = ends_of(lengths)
        data = np.empty(int(ends[-1]), np.uint8)
        for first in range(0, len(rows), BLOCK):
            part = slice(first, first + BLOCK)
            begin, end = int(ends[first]), int(ends[min(first + BLOCK, len(rows))])
            # how far each text is moved
            by = self._ends[rows[part]].astype(np.int64) - ends[:-1][part]
            data[begin:end] = self._data[np.repeat(by, lengths[part]) + np.arange(begin, end)]
        return Texts(data, ends)

    def picked(self, rows: np.ndarray) -> Texts:
        """The texts of these rows, integers [K]; "" where one is below 0."""
        none = np.flatnonzero(rows < 0)
        if len(none) == len(rows):
            return Texts.repeated("", len(rows))
        chosen = self.select(np.maximum(rows, 0))
        return chosen.replaced(none, Texts.repeated("", len(none))) if len(none) else chosen

    def mapped(self, change: Callable[[str], str]) -> Texts:
        """Each text as `change` makes it; this very column where none is made another."""
        if self._codes is not None:
            words = [change(word) for word in self._words()]
            return self if words == self._words() else Texts.numbered(self._codes, words)
        packer: Packer | None = None
        for number, block in enumerate(self.blocks()):
            changed = [change(text) for text in block]
            if packer is None and changed != block:
                packer = Packer()
                for before in self[: number * BLOCK].blocks():
                    packer.extend(before)
            if packer is not None:
                packer.extend(changed)
        return self if packer is None else Texts(*packer.arrays())

    def replaced(self, rows: np.ndarray, texts: Texts) -> Texts:
        """The column with other texts in these rows, integers [K]."""
        at = np.arange(len(self))
        at[rows] = len(self) + np.arange(len(texts))
        return Texts.joined([self, texts]).select(at)

    def equal(self, text: str) -> np.ndarray:
        """Which rows have this text: bool [N]."""
        if self._codes is None:
            return np.fromiter((own == text for own in self), bool, len(self))
        equal: np.ndarray = np.array([word == text for word in self._words()], bool)[self._codes]
        return equal

    def empty_rows(self) -> np.ndarray:
        """The rows whose text is "", rising: int64."""
        empty = self._ends[1:] == self._ends[:-1]
        return np.flatnonzero(empty if self._codes is None else empty[self._codes])

    def holds(self, character: re.Pattern[bytes]) -> bool:
        """Whether the UTF-8 of any text, or of one that they were selected from, has it."""
        return character.search(self._view[int(self._ends[0]) : int(self._ends[-1])]) is not None

    def factorized(self) -> tuple[np.ndarray, Texts]:
        """(each row's number among the distinct texts, integers [N], and those texts, sorted)."""
        if self._codes is None:
            order, fresh = self.ranked()
            numbers = np.empty(len(self), np.int64)
            numbers[order] = np.cumsum(fresh) - 1
            return numbers, self.select(order[fresh])
        words = self._words()
        present = np.flatnonzero(np.bincount(self._codes, minlength=len(words)))
        distinct = sorted({words[code] for code in present.tolist()})
        number = {word: place for place, word in enumerate(distinct)}
        renumbered = np.array([number.get(word, 0) for word in words], code_type(len(distinct)))
        return renumbered[self._codes], Texts(*packed(distinct))

    def distinct(self) -> list[str]:
        """The texts that occur, each once, sorted."""
        return list(self.factorized()[1])

    def order(self) -> np.ndarray:
        """The rows sorted by their texts, equal ones in their order: integers [N]."""
        return self.ranked()[0]

    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """(the rows sorted by their texts, bool [N]: is it another text than the one before)."""
        if self._codes is not None:
            codes, _ = self.factorized()
            order = np.argsort(codes, kind="stable")
            return order, np.diff(codes[order].astype(np.int64), prepend=-1) != 0
        if all(itertools.starmap(operator.le, itertools.pairwise(self))):
            other = itertools.starmap(operator.ne, itertools.pairwise(self))
            fresh = np.ones(len(self), bool)
            fresh[1:] = np.fromiter(other, bool, max(0, len(self) - 1))
            return np.arange(len(self)), fresh
        return sorted_rows(self._data, self._ends)

    def _words(self) -> list[str]:
        """The distinct texts that `codes` number."""
        if self._kept_words is None:
            self._kept_words = list(Texts(self._data, self._ends))
        return self._kept_words


def _is_all(rows: np.ndarray, count: int) -> bool:
    """True for 0 to count - 1 in their order."""
    if len(rows) != count:
        return False
    blocks = range(0, count, BLOCK)
    return all(
        np.array_equal(rows[at : at + BLOCK], np.arange(at, min(at + BLOCK, count)))
        for at in blocks
    )


def alike(texts: Iterable[str], count: int) -> Iterator[np.ndarray]:
    """Rows, rising, that may have the same text, two and more at a time: integers [K].

    All equal texts come together, perhaps with others of the same hash. count: how many there are.
    """
    hashes = np.fromiter(map(hash, texts), np.int64, count)
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    same = np.append(hashes[1:] == hashes[:-1], False)
    # the first of each run, and the first behind it
    starts = np.flatnonzero(same & ~np.append(False, same[:-1]))
    stops = np.flatnonzero(~same & np.append(False, same[:-1])) + 1
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        yield order[start:stop]
