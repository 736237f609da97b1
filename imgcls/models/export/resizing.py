"""Pillow's resizing of bytes as tensor operations that every runtime computes alike.

The runtimes' own Resize differ from Pillow's, and from one another, in antialiasing and at edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

_BICUBIC = -0.5  # a of Keys 1981
# Pillow's weights are whole numbers of which this many make 1, and its sums are exact. float32
# holds the sums of their upper and of their lower half
_HALF_BITS = 2**11
_ONE = _HALF_BITS**2


def _bilinear(distance: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    return (unit - distance.abs()).clamp(min=0)


def _hamming(distance: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    x = (distance / unit).abs().clamp(max=1)
    # a cosine as a sine, which more runtimes have in float64
    return _sinc(x) * (0.54 + 0.46 * torch.sin(math.pi * (x + 0.5)))


def _bicubic(distance: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    x = (distance / unit).abs().clamp(max=2)
    near = ((_BICUBIC + 2) * x - (_BICUBIC + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _BICUBIC
    return torch.where(x < 1, near, far)


def _lanczos(distance: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    x = (distance / unit).abs().clamp(max=3)
    return _sinc(x) * _sinc(x / 3)


def _sinc(x: torch.Tensor) -> torch.Tensor:
    """sin(pi x) / (pi x)."""
    angle = math.pi * x
    # never divided by 0, whose nan a runtime may let through where the other branch is taken
    return torch.where(x == 0, 1.0, torch.sin(angle) / angle.clamp(min=1e-9))


# Pillow's filters, up to a factor, of distances in a unit: a pixel of the output where the picture
# shrinks, of the input where it grows. Not box and nearest: they take or leave a whole pixel by the
# last bit of its place
FILTERS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "bilinear": _bilinear,
    "hamming": _hamming,
    "bicubic": _bicubic,
    "lanczos": _lanczos,
}


@dataclass(frozen=True)
class Axis:
    """One axis of a picture that is resized and of which a window of `size` pixels is kept.

    old, new: its pixels before and after resizing; start: where the window begins on it, negative
    where a border is to be filled; all int64 tensors without dimensions.
    """

    old: torch.Tensor
    new: torch.Tensor
    start: torch.Tensor
    size: int

    @property
    def positions(self) -> torch.Tensor:
        """The window's pixels on the resized axis: int64 [size]."""
        return torch.arange(self.size, device=self.old.device) + self.start

    @property
    def inside(self) -> torch.Tensor:
        """Which of the window's pixels lie on the picture: bool [size]."""
        positions = self.positions
        return (positions >= 0) & (positions < self.new)

    def weights(self, length: int, interpolation: str) -> torch.Tensor:
        """How much of each old pixel is in each of the window's: float32 [2 * size, length].

        length: `old`, as a number. A weight is _HALF_BITS * its row in the first half + its row in
        the second, of _ONE; both are whole numbers.
        """
        # counted from the middle and times 2 * old * new, distances are whole numbers, and so small
        # where it matters that also runtimes without float64 have them exactly
        old, new = self.old.double(), self.new.double()
        here = (2 * torch.arange(length, device=self.old.device) + 1 - self.old).double() * new
        there = (2 * self.positions + 1 - self.new).double() * old
        found = FILTERS[interpolation](here - there[:, None], 2 * torch.maximum(old, new))
        total = found.sum(dim=1, keepdim=True)
        # a border's own rows have nothing to be divided by
        share = found / torch.where(total == 0, 1.0, total)
        whole = torch.where(share < 0, (share * _ONE - 0.5).ceil(), (share * _ONE + 0.5).floor())
        upper = (whole / _HALF_BITS).round()
        return torch.cat([upper, whole - upper * _HALF_BITS]).float()


def resized_window(
    images: torch.Tensor, across: Axis, down: Axis, interpolation: str
) -> torch.Tensor:
    """The window of pictures [B, C, h, w] with levels of 0 to 255: whole levels, float32.

    As Pillow does it: rows of pixels first, rounded to whole levels, then columns, rounded again.
    Below a border stands anything.
    """
    height, width = images.shape[2:]
    rows = images.float() @ across.weights(width, interpolation).T
    levels = _levels(rows[..., : across.size], rows[..., across.size :])
    columns = down.weights(height, interpolation) @ levels
    return _levels(columns[..., : down.size, :], columns[..., down.size :, :])


def _levels(upper: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    """(_HALF_BITS * upper + lower) / _ONE, rounded as Pillow does, without leaving float32."""
    level = (upper / _HALF_BITS).floor()
    rest = upper - level * _HALF_BITS + lower / _HALF_BITS
    return (level + (rest / _HALF_BITS + 0.5).floor()).clamp(0, 255)
