"""Packs texts into arrays: their UTF-8 in one buffer, each distinct one once where they repeat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

# halves of surrogate pairs, which names of files may hold, have to come back as they were
ERRORS = "surrogatepass"
# so many distinct texts are kept once and numbered, unless they are more than a quarter of the rows
_MOST_WORDS = 2**16
_FEW_WORDS = 2**8


class Packer:
    """Takes texts in, block by block, and gives their arrays."""

    def __init__(self) -> None:
        # None once there are too many distinct texts to number them
        self._numbers: dict[str, int] | None = {}
        self._codes: list[np.ndarray] = []
        self._data = bytearray()
        self._lengths: list[np.ndarray] = []
        self._count = 0

    def extend(self, texts: Sequence[str]) -> None:
        """Take in a block of texts."""
        self._count += len(texts)
        if self._numbers is None:
            self._append(texts)
            return
        numbers = self._numbers
        codes = (numbers.setdefault(text, len(numbers)) for text in texts)
        self._codes.append(np.fromiter(codes, np.int64, len(texts)).astype(code_type(len(numbers))))
        if len(numbers) > min(max(self._count // 4, _FEW_WORDS), _MOST_WORDS):
            words, blocks = list(numbers), self._codes
            self._numbers, self._codes = None, []
            for block in blocks:
                self._append([words[code] for code in block.tolist()])

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """(uint8 of all texts, int64 [D + 1] where each ends, which of the D each row is or None).

        Of the texts so far; nothing can be taken in any more.
        """
        if self._numbers is not None:
            codes = np.concatenate([np.empty(0, np.uint8), *self._codes])
            return *packed(self._numbers), codes
        ends = np.zeros(self._count + 1, np.int64)
        np.concatenate(self._lengths, out=ends[1:])
        np.cumsum(ends, out=ends)
        return array_of(self._data), ends, None

    def _append(self, texts: Sequence[str]) -> None:
        whole = "".join(texts)
        encoded = whole.encode("utf-8", ERRORS)
        lengths: Iterable[int] = map(len, texts)
        if len(whole) != len(encoded):
            lengths = (len(text.encode("utf-8", ERRORS)) for text in texts)
        self._lengths.append(np.fromiter(lengths, np.int64, len(texts)).astype(np.uint32))
        self._data += encoded


def packed(words: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 of all texts, int64 [D + 1] where each ends), however often they repeat."""
    encoded = [word.encode("utf-8", ERRORS) for word in words]
    return array_of(b"".join(encoded)), np.cumsum([0, *map(len, encoded)], dtype=np.int64)


def array_of(data: bytes | bytearray) -> np.ndarray:
    """The bytes as uint8, not copied."""
    return np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)


def code_type(words: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type that numbers so many."""
    return np.uint8 if words <= 2**8 else np.uint16 if words <= 2**16 else np.uint32
