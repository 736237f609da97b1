"""Pictures that a program has in memory, on the way that their files go."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from imgcls.data.pixels.decode import UnreadableImageError

_GREY, _COLOUR = 2, 3  # dimensions
_CHANNELS = (1, 2, 3, 4)
_FORMS = "uint8 from 0 to 255, [height, width] or [height, width, channels]"


def picture_in_memory(picture: Any) -> bytes | Image.Image:
    """What `decode` takes for a PIL picture or an array.

    A PIL picture whose pixels nobody has asked for yet is its file, so that it gives what the file
    gives: all bits of deep colours, and a JPEG that is decoded no larger than needed. Arrays are
    uint8 [H, W] or [H, W, C] of grey, grey and alpha, RGB or RGBA; or uint16 [H, W], of the bits
    that the model's 16-bit pictures have. Raises UnreadableImageError for other arrays.
    """
    if isinstance(picture, Image.Image):
        return _file_of(picture) or picture
    return _of_array(picture)


def _file_of(picture: Image.Image) -> bytes | None:
    """The encoded picture, where none of its pixels were decoded; None where it is not there."""
    if not isinstance(picture, ImageFile.ImageFile) or not picture.tile or picture.tell():
        return None
    stream: Any = picture.fp
    if stream is None or stream.closed:
        raise UnreadableImageError(
            "its file was closed before its pixels were read; load() it first"
        )
    try:
        at = stream.tell()
        stream.seek(0, io.SEEK_SET)
        content: bytes = stream.read()
        stream.seek(at)
    except (OSError, ValueError, AttributeError):
        return None
    return content


def _of_array(pixels: np.ndarray) -> Image.Image:
    if pixels.shape[2:] == (1,):
        pixels = pixels[:, :, 0]
    known = np.uint8, *((np.uint16,) if pixels.ndim == _GREY else ())
    in_colour = pixels.ndim == _COLOUR and pixels.shape[2] in _CHANNELS
    if pixels.dtype not in known or not pixels.size or not (pixels.ndim == _GREY or in_colour):
        shape = ", ".join(map(str, pixels.shape))
        raise UnreadableImageError(
            f"is an array of {pixels.dtype} [{shape}]; pictures are {_FORMS}{_advice(pixels)}"
        )
    return Image.fromarray(np.ascontiguousarray(pixels))


def _advice(pixels: np.ndarray) -> str:
    if pixels.dtype.kind == "f":
        return "; of values from 0 to 1: (255 * picture).round().astype('uint8')"
    if pixels.ndim == _COLOUR and pixels.shape[0] in _CHANNELS:
        return "; put the channels last: np.moveaxis(picture, 0, -1)"
    return ""
