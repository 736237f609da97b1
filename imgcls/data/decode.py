"""The one way from a file to pixels: upright, three channels, eight bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError


class UnreadableImageError(Exception):
    """The picture cannot be decoded; the message is the reason, without the file's name."""


def decode(file: Path) -> Image.Image:
    """The picture as RGB, turned as its EXIF orientation says, transparency on white.

    Raises UnreadableImageError with the reason.
    """
    try:
        with Image.open(file) as image:
            image.load()
            return to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise UnreadableImageError("the file is gone") from None
    except UnidentifiedImageError:
        empty = file.stat().st_size == 0
        raise UnreadableImageError("the file is empty" if empty else "not a picture") from None
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(str(error)) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        # PIL reports damage with all of these
        raise UnreadableImageError(str(error) or type(error).__name__) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """The picture as RGB; more than eight bits are scaled, not clipped."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _scaled_to_eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        upper = image.convert("RGBA")
        white = Image.new("RGBA", upper.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, upper).convert("RGB")
    return image.convert("RGB")


def _scaled_to_eight_bits(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float64)
    if image.mode.startswith("I;16") or (
        image.mode == "I" and 0 <= pixels.min() <= pixels.max() < 2**16
    ):
        scale = 255.0 / (2**16 - 1)
        return Image.fromarray(np.round(pixels * scale).astype(np.uint8))
    low, high = float(pixels.min()), float(pixels.max())
    spread = high - low if high > low else 1.0
    return Image.fromarray(np.round((pixels - low) / spread * 255.0).astype(np.uint8))
