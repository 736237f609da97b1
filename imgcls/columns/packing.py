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
        """(uint8 of all texts, [D + 1] where each ends, which of the D each row is or None).

        Of the texts so far; nothing can be taken in any more.
        """
        if self._numbers is not None:
            codes = np.concatenate([np.empty(0, np.uint8), *self._codes])
            return *packed(self._numbers), codes
        return array_of(self._data), ends_of(np.concatenate(self._lengths)), None

    def _append(self, texts: Sequence[str]) -> None:
        whole = "".join(texts)
        encoded = whole.encode("utf-8", ERRORS)
        lengths: Iterable[int] = map(len, texts)
        if len(whole) != len(encoded):
            lengths = (len(text.encode("utf-8", ERRORS)) for text in texts)
        self._lengths.append(np.fromiter(lengths, np.int64, len(texts)).astype(np.uint32))
        self._data += encoded


def packed(words: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 of all texts, [D + 1] where each ends), however often they repeat."""
    encoded = [word.encode("utf-8", ERRORS) for word in words]
    return array_of(b"".join(encoded)), ends_of(np.array([*map(len, encoded)], np.int64))


def ends_of(lengths: np.ndarray) -> np.ndarray:
    """Where texts of so many bytes, integers [D], end: [D + 1] from 0, uint32 below 4 GiB."""
    kind = np.uint32 if int(lengths.sum(dtype=np.int64)) < 2**32 else np.int64
    ends = np.zeros(len(lengths) + 1, kind)
    np.cumsum(lengths, out=ends[1:], dtype=kind)
    return ends


def array_of(data: bytes | bytearray) -> np.ndarray:
    """The bytes as uint8, not copied."""
    return np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)


def code_type(words: int) -> type[np.unsignedinteger[Any]]:
    """The smallest type that numbers so many."""
    return np.uint8 if words <= 2**8 else np.uint16 if words <= 2**16 else np.uint32
