"""Pillow's resizing of bytes as tensor operations that every runtime computes alike.

The runtimes' own Resize differ from Pillow's, and from one another, in antialiasing and at edges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

_HALF = 0.5
_BICUBIC = -0.5  # Pillow's a, of Keys 1981


def _nearest_of(x: torch.Tensor) -> torch.Tensor:
    # of two that are equally near Pillow takes the right one: it cuts a position's fraction off
    return ((x > -_HALF) & (x <= _HALF)).to(x.dtype)


def _triangle(x: torch.Tensor) -> torch.Tensor:
    return (1 - x.abs()).clamp(min=0)


def _hamming(x: torch.Tensor) -> torch.Tensor:
    inside = x.abs().clamp(max=1)
    return _sinc(inside) * (0.54 + 0.46 * torch.cos(math.pi * inside))


def _bicubic(x: torch.Tensor) -> torch.Tensor:
    x = x.abs().clamp(max=2)
    near = ((_BICUBIC + 2) * x - (_BICUBIC + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _BICUBIC
    return torch.where(x < 1, near, far)


def _lanczos(x: torch.Tensor) -> torch.Tensor:
    inside = x.abs().clamp(max=3)
    return _sinc(inside) * _sinc(inside / 3)


def _sinc(x: torch.Tensor) -> torch.Tensor:
    """sin(pi x) / (pi x) of x >= 0, and 0 for whole numbers but 0."""
    angle = math.pi * x
    # never divided by 0, whose nan a runtime may let through where the other branch is taken
    return torch.where(x == 0, 1.0, torch.sin(angle) / angle.clamp(min=1e-7))


# Pillow's filters, of a distance in output pixels where the picture shrinks, in input pixels where
# it grows; each is 0 beyond its support. nearest stands in a rule of its own
FILTERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "box": _nearest_of,
    "bilinear": _triangle,
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
        """How much of each old pixel is in each of the window's: float32 [size, length].

        length: `old`, as a number. Rows add up to 1.
        """
        old_pixels = torch.arange(length, device=self.old.device)
        if interpolation == "nearest":
            taken = (2 * self.positions + 1) * self.old // (2 * self.new)
            return (old_pixels == taken[:, None]).float()
        # distances times 2 * old * new, counted from the middle: whole numbers, and such small ones
        # where it matters that float32 holds them exactly for pictures up to 70,000 pixels long
        here = (2 * old_pixels + 1 - self.old).float() * self.new.float()
        there = (2 * self.positions + 1 - self.new).float() * self.old.float()
        longest = torch.maximum(self.old, self.new).float()
        found = FILTERS[interpolation]((here - there[:, None]) / (2 * longest))
        total = found.sum(dim=1, keepdim=True)
        # a border's own rows have nothing to be divided by
        return found / torch.where(total == 0, 1.0, total)


def resized_window(
    images: torch.Tensor, across: Axis, down: Axis, interpolation: str
) -> torch.Tensor:
    """The window of pictures [B, C, h, w] with levels of 0 to 255: whole levels, float32.

    As Pillow does it: rows of pixels first, rounded to whole levels, then columns, rounded again.
    Below a border stands anything.
    """
    height, width = images.shape[2:]
    rows = images.float() @ across.weights(width, interpolation).T
    return _levels(down.weights(height, interpolation) @ _levels(rows))


def _levels(values: torch.Tensor) -> torch.Tensor:
    return (values + _HALF).floor().clamp(0, 255)
