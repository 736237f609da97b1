"""The bits that the pictures of a data set use: one scale for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from imgcls.data.audit.picture import measure
from imgcls.data.audit.scan import scan
from imgcls.data.pixels.decode import DecodeSettings
from imgcls.data.pixels.depth import HEAD_BYTES, Depth, may_be_deep
from imgcls.data.table import ImageStore, SampleTable

_DEPTHS = (8, 10, 12, 14, *range(16, 33))
_FLOAT_DEPTHS = range(1, 33)
_PLAIN, _CONTAINER = 8, 16
# of the scale: less is left in the dark
_DIM = 1 / 16


@dataclass(frozen=True)
class Depths:
    """The depths of a table's pictures of more than eight bits, by row."""

    by_row: Mapping[int, Depth]

    @property
    def bits(self) -> int | None:
        """The bits to scale by what declares none; None without pictures of more than eight.

        The smallest of 8, 10, 12, 14, 16 and more that holds the largest sample of them all; what
        sBIT says, if that does; 1 for floats from 0 to 1, and each number of bits above.
        """
        if not self.by_row:
            return None
        if not self.undeclared:
            return max(depth.declared or 0 for depth in self.by_row.values())
        scaled = [d for d in self.undeclared.values() if d.low >= 0] or [Depth(0, 0)]
        highest = max(depth.high for depth in scaled)
        said = max((depth.significant or 0 for depth in scaled), default=0)
        if any(depth.significant for depth in scaled):
            # a writer that keeps to the standard has scaled them up already
            return said if highest < 2**said else _CONTAINER
        steps = _FLOAT_DEPTHS if all(depth.floating for depth in scaled) else _DEPTHS
        return next((bits for bits in steps if highest <= 2**bits - 1), _DEPTHS[-1])

    @property
    def undeclared(self) -> dict[int, Depth]:
        """Those whose files do not say how many bits they use."""
        return {row: depth for row, depth in self.by_row.items() if depth.declared is None}

    @property
    def negative(self) -> list[int]:
        """Rows with samples below zero, which no number of bits scales."""
        return [row for row, depth in self.by_row.items() if depth.low < 0]

    @property
    def dim(self) -> list[int]:
        """Rows that stay below a sixteenth of the scale, while others do not."""
        full_scale = 2 ** (self.bits or 0) - 1
        own = self.undeclared
        low = [row for row, d in own.items() if d.low >= 0 and d.high < full_scale * _DIM]
        return low if len(low) < len(own) else []

    @property
    def unit_floats(self) -> list[int]:
        """Rows of floats from 0 to 1, in a data set whose scale is a camera's."""
        floats = {row: depth for row, depth in self.undeclared.items() if depth.floating}
        if len(floats) == len(self.undeclared) and (self.bits or 0) <= _PLAIN:
            return []
        return [row for row, depth in floats.items() if 0 <= depth.low <= depth.high <= 1]

    def words(self) -> str:
        """What was found, and what is made of it: "20 pictures declare 12 bits; ..."."""
        declared = Counter(d.declared for d in self.by_row.values() if d.declared is not None)
        parts = [f"{n:,} pictures declare {bits} bits" for bits, n in sorted(declared.items())]
        if self.undeclared:
            high = max(depth.high for depth in self.undeclared.values())
            scale = "from 0 to 1" if self.bits == 1 else f"by {self.bits} bits"
            if high < _DIM * (2 ** (self.bits or 0) - 1):
                scale += ", so they are dark; save them on a larger scale"
            parts.append(
                f"{len(self.undeclared):,} of more than 8 bits go up to {high:,.10g} and "
                f"are scaled {scale}"
            )
        if self.negative:
            parts.append(
                f"{len(self.negative):,} go below zero and are each stretched over their own range"
            )
        return "; ".join(parts)


def measure_depths(
    table: SampleTable,
    *,
    workers: int | str,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
) -> Depths:
    """The depths of all pictures of a table; of most, a few bytes are read to know that it is 8."""
    found = scan(
        _OnlyDeep(table.images), len(table), measure, workers=workers, on_picture=on_picture
    )
    return Depths({row: fact.depth for row, fact in enumerate(found) if fact.depth is not None})


class _OnlyDeep(ImageStore):
    """Another store's pictures, of which only the first bytes are read where no more matter."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images
        self.decoding: DecodeSettings = images.decoding
        self.outlives_fork = images.outlives_fork

    def content(self, index: int) -> bytes:
        head = self._images.head(index, HEAD_BYTES)
        return self._images.content(index) if may_be_deep(head) else head

    def location(self, index: int) -> str:
        return self._images.location(index)
