"""JPEGs as arrays, by simplejpeg: the pixels of Pillow in less time, and no second copy of them."""

from __future__ import annotations

import numpy as np
import simplejpeg

_COLOURS = {"L": "GRAY", "RGB": "RGB"}


def decode_jpeg(
    content: bytes, size: tuple[int, int], mode: str, *, reduction: int
) -> np.ndarray | None:
    """The pixels, uint8 [H, W] or [H, W, 3], as they are stored, whatever the EXIF orientation.

    size: (width, height) in the file; mode: Pillow's L or RGB; reduction: 1, 2, 4 or 8, by which
    both sides come smaller. None for a file with anything wrong, even what could be mended: Pillow
    knows what to make of it.
    """
    width, height = (-(-side // reduction) for side in size)
    try:
        pixels: np.ndarray = simplejpeg.decode_jpeg(
            content, _COLOURS[mode], min_height=height, min_width=width
        )
    except ValueError:
        return None
    # where a side has a few pixels only, a smaller scale may have as many
    if pixels.shape[:2] != (height, width):
        return None
    return pixels[..., 0] if mode == "L" else pixels
