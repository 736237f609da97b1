"""Resizing arrays of pixels by torch, whose kernels for bytes are much faster than Pillow's.

Their weights have 16 bits where Pillow's have 32, so a level may be one beside Pillow's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

MODES = {Image.Resampling.BILINEAR: "bilinear", Image.Resampling.BICUBIC: "bicubic"}
# channels that mean the same wherever they stand: alpha, to Pillow, weighs the others
SHRINKABLE = (1, 3)
_GREY = 2  # dimensions

_MIRRORED_ACROSS = (2, 3, 6, 7)
_MIRRORED_DOWN = (3, 4, 7, 8)
# EXIF orientations from here on have rows and columns change places
ON_ITS_SIDE = 5

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Part:
    """The `box` of a picture of `whole` pixels, resized to `grid`, of which `window` is kept.

    Boxes are (left, upper, right, lower), sizes (width, height). columns_first: which of the two
    passes comes first, each of which rounds to whole levels.
    """

    whole: tuple[int, int]
    box: Box
    grid: tuple[int, int]
    window: Box
    resample: Image.Resampling
    columns_first: bool = False

    def as_stored(self, orientation: int) -> Part:
        """The same part in a picture that its EXIF orientation, 1 to 8, has yet to turn upright."""
        part = self
        if orientation in _MIRRORED_ACROSS:
            part = replace(
                part,
                box=_across(part.box, part.whole[0]),
                window=_across(part.window, part.grid[0]),
            )
        if orientation in _MIRRORED_DOWN:
            part = replace(
                part, box=_down(part.box, part.whole[1]), window=_down(part.window, part.grid[1])
            )
        if orientation >= ON_ITS_SIDE:
            part = replace(
                part,
                whole=part.whole[::-1],
                box=_transposed(part.box),
                grid=part.grid[::-1],
                window=_transposed(part.window),
                columns_first=not part.columns_first,
            )
        return part


def _across(box: Box, width: int) -> Box:
    return width - box[2], box[1], width - box[0], box[3]


def _down(box: Box, height: int) -> Box:
    return box[0], height - box[3], box[2], height - box[1]


def _transposed(box: Box) -> Box:
    return box[1], box[0], box[3], box[2]


def shrink(pixels: np.ndarray, part: Part) -> np.ndarray:
    """The part's pixels, uint8 [h, w] or [h, w, 3], of as many channels.

    Raises KeyError for a resampling filter that is not in MODES.
    """
    # the audit decodes without it, in many processes
    import torch

    left, upper, right, lower = part.box
    box = pixels[upper:lower, left:right]
    rows = box[None, ..., None] if box.ndim == _GREY else box[None]
    tensor = torch.from_numpy(rows).permute(0, 3, 1, 2)
    width, height = part.grid
    for across in (False, True) if part.columns_first else (True, False):
        size = (tensor.shape[2], width) if across else (height, tensor.shape[3])
        tensor = torch.nn.functional.interpolate(
            # whole and in this order, or torch puts channels first and back again
            tensor.contiguous(memory_format=torch.channels_last),
            size=size,
            mode=MODES[part.resample],
            antialias=True,
        )
        start, stop = part.window[0::2] if across else part.window[1::2]
        tensor = tensor[..., start:stop] if across else tensor[:, :, start:stop]
    shrunk = tensor[0].permute(1, 2, 0).contiguous().numpy()
    return shrunk[..., 0] if box.ndim == _GREY else shrunk
