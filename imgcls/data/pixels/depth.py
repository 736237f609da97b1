"""Pictures of more than eight bits a sample: their declared depth, and scaling to eight.

A 16-bit file often holds 12 bits of a camera, or 10. Which, the file may declare (TIFF's
BitsPerSample and MaxSampleValue, the precision of JPEG 2000, PNM's maxval); else one depth is
measured for a whole data set, so that all its pictures stay on one scale.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from imgcls.data.pixels.formats import open_image

# of a file, enough for `may_be_deep`
HEAD_BYTES = 32
# bits that nobody knows, where none may be guessed
UNKNOWN = 0
_EIGHT, _SIXTEEN = 8, 16
_PNG_MAGIC, _PNG_DEPTH_AT = b"\x89PNG\r\n\x1a\n", 24
_MAGICS = (
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # TIFF and BigTIFF
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),  # JPEG 2000
    *(b"P2", b"P3", b"P5", b"P6", b"Pf"),  # PNM
)
_PRECISION_MARKER, _PRECISION_AT = b"\xff\x51", 40


class Depth(NamedTuple):
    """The depth of one picture: declared bits, range of samples, kind of number.

    low, high: the smallest and largest sample, alpha apart. floating: samples are float32.
    declared: the bits that the file says its samples have. significant: those that a PNG's sBIT
    says; by the standard they are scaled to 16, which not every writer does.
    """

    low: float
    high: float
    floating: bool = False
    declared: int | None = None
    significant: int | None = None


class DepthError(ValueError):
    """Samples that cannot be read as they are, or are larger than the depth allows."""


def may_be_deep(head: bytes) -> bool:
    """False for a picture whose first HEAD_BYTES say that no sample has more than eight bits."""
    if head.startswith(_PNG_MAGIC):
        return head[_PNG_DEPTH_AT : _PNG_DEPTH_AT + 1] == bytes([_SIXTEEN])
    return head.startswith(_MAGICS)


def depth_of(image: Image.Image, content: bytes) -> Depth | None:
    """The depth of an opened picture, which is decoded; None for one of eight bits or fewer."""
    if not _is_deep(image):
        return None
    declared, _ = _declared(image, content)
    samples, _ = _samples(image, content)
    finite = samples[np.isfinite(samples)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    return Depth(low, high, image.mode == "F", declared, _significant_bits(content))


def in_eight_bits(image: Image.Image, content: bytes, bits: int | None) -> Image.Image | None:
    """The picture in mode L, LA, RGB or RGBA, scaled by the bits that it declares, else by `bits`.

    image: just opened, from content; it is decoded. None for one of eight bits or fewer, and
    where nobody says how many it has. Raises DepthError for a sample above the scale, and for
    UNKNOWN bits that the file does not declare. Samples below
    zero have no such scale: such a picture is stretched from its lowest to its highest.
    """
    if not _is_deep(image):
        return None
    declared, full_scale = _declared(image, content)
    if declared is None:
        if bits is None:
            return None
        if bits == UNKNOWN:
            raise DepthError(
                "has samples of more than 8 bits, and neither its file nor the model's folder "
                "says of how many; give them by --bit-depth"
            )
        declared, full_scale = bits, 2.0**bits - 1
    if declared == _SIXTEEN and image.mode in ("RGB", "RGBA"):
        return None  # Pillow's way keeps the upper byte, which is the same scale
    samples, alpha = _samples(image, content)
    grey = Image.fromarray(_scaled(samples, declared, full_scale))
    if alpha is not None:
        grey.putalpha(Image.fromarray(alpha))
    return grey


def by_own_range(image: Image.Image) -> Image.Image:
    """Grey in eight bits: 16 bits by 65535; 0 to 1 by 1; all else by the picture's own range."""
    pixels = np.asarray(image, dtype=np.float64)
    finite = pixels[np.isfinite(pixels)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if image.mode.startswith("I;16") or (image.mode == "I" and 0 <= low <= high < 2**16):
        low, high = 0.0, 2.0**16 - 1
    elif image.mode == "F" and 0 <= low <= high <= 1:
        low, high = 0.0, 1.0
    spread = high - low if high > low else 1.0
    scaled = (np.nan_to_num(pixels, nan=low, posinf=high, neginf=low) - low) / spread
    return Image.fromarray(np.round(scaled * 255.0).astype(np.uint8))


def _scaled(samples: np.ndarray, bits: int, full_scale: float) -> np.ndarray:
    if samples.dtype.kind == "f":
        finite = np.isfinite(samples)
        samples = np.where(finite, samples, samples.min(initial=0.0, where=finite))
    low, high = float(samples.min()), float(samples.max())
    if low < 0:
        spread = high - low or 1.0
        return np.rint((samples - low) * (255.0 / spread)).astype(np.uint8)
    if high > full_scale:
        raise DepthError(
            f"has values up to {high:,.10g}, where a depth of {bits} bits ends at "
            f"{full_scale:,.10g}; see --bit-depth"
        )
    return np.rint(samples * (255.0 / full_scale)).astype(np.uint8)


def require_readable(image: Any) -> None:
    """Raise DepthError for a picture just opened whose 16 bits Pillow takes for twice eight."""
    if image.format != "TIFF" or _first(image.tag_v2.get(258)) != _SIXTEEN:
        return
    if {_raw_mode(tile) for tile in _tiles(image)} & {"R", "G", "B", "A"}:
        raise DepthError(
            "is a TIFF of 16 bits whose colours lie in planes of their own, which is not read; "
            "save it with interleaved colours (PlanarConfiguration 1)"
        )


def _is_deep(image: Image.Image) -> bool:
    if image.mode.startswith("I") or image.mode == "F":
        return True
    return image.mode in ("RGB", "RGBA") and any(";16" in _raw_mode(t) for t in _tiles(image))


def _declared(image: Any, content: bytes) -> tuple[int | None, float]:
    """(bits that the file declares, the sample that stands for white in Pillow's decoding)."""
    if image.format == "TIFF":
        tags: Any = image.tag_v2
        bits = _first(tags.get(258))
        if bits is not None and _EIGHT < bits < _SIXTEEN:
            return bits, 2.0**bits - 1
        for tag in (341, 281):  # SMaxSampleValue, MaxSampleValue
            # many writers put the picture's own largest sample there: no scale for a data set
            largest = _first(tags.get(tag))
            if largest is not None and largest + 1 in [2**n for n in range(_EIGHT, _SIXTEEN)]:
                return (largest + 1).bit_length() - 1, float(largest)
    elif image.format == "JPEG2000":
        at = content.find(_PRECISION_MARKER)
        bits = (content[at + _PRECISION_AT] & 0x7F) + 1 if at >= 0 else _SIXTEEN
        if _EIGHT < bits < _SIXTEEN:  # Pillow moves them to the upper bits
            return bits, float((2**bits - 1) << (_SIXTEEN - bits))
    elif image.format == "PPM" and image.mode == "I":
        for tile in _tiles(image):
            largest = tile.args if isinstance(tile.args, int) else tile.args[-1]
            if tile.codec_name.startswith("ppm") and largest != 2**_SIXTEEN - 1:
                return int(largest).bit_length(), 2.0**_SIXTEEN - 1  # Pillow has scaled them
    return None, 0.0


def _first(value: Any) -> int | None:
    """A tag's value, or the first of several; None unless it is a whole number."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    return value if isinstance(value, int) else None


def _significant_bits(content: bytes) -> int | None:
    """The most bits that the chunk sBIT of a PNG names."""
    if not content.startswith(_PNG_MAGIC):
        return None
    at = len(_PNG_MAGIC)
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if kind == b"sBIT":
            return max(content[at + 8 : at + 8 + length], default=None)
        if kind == b"IDAT":
            break
        at += length + 12
    return None


def _samples(image: Image.Image, content: bytes) -> tuple[np.ndarray, np.ndarray | None]:
    """(the samples [H, W] or [H, W, 3], alpha in eight bits or None) as they are stored.

    Pillow keeps the upper byte of colours; the lower one comes from reading them in the other byte
    order.
    """
    if image.mode not in ("RGB", "RGBA"):
        return np.asarray(image), None
    raw_modes = {_raw_mode(tile) for tile in _tiles(image)}
    with open_image(content) as again:
        if raw_modes == {"LA;16B"}:
            again.tile = [_with_raw_mode(tile, "RGBA") for tile in _tiles(again)]
            pixels = np.asarray(again)
            return pixels[..., 0].astype(np.uint16) << 8 | pixels[..., 1], pixels[..., 2]
        again.tile = [_with_raw_mode(t, _other_order(_raw_mode(t))) for t in _tiles(again)]
        lower = np.asarray(again)
    upper = np.asarray(image)
    alpha = upper[..., 3] if image.mode == "RGBA" else None
    return upper[..., :3].astype(np.uint16) << 8 | lower[..., :3], alpha


def _tiles(image: Image.Image) -> list[Any]:
    return list(getattr(image, "tile", ()))


def _raw_mode(tile: Any) -> str:
    raw_mode = tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0]
    return raw_mode if isinstance(raw_mode, str) else ""


def _with_raw_mode(tile: Any, raw_mode: str) -> Any:
    args = raw_mode if isinstance(tile.args, str) else (raw_mode, *tile.args[1:])
    return tile._replace(args=args)


def _other_order(raw_mode: str) -> str:
    name, order = raw_mode[:-1], raw_mode[-1]
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    return name + {"B": "L", "L": "B"}[order]
