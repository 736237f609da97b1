"""Facts about one picture for the audit: a few hundred bytes, however large the file is."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn

from imgcls.data.pixels.decode import DecodeSettings, UnreadableImageError, decode, opened
from imgcls.data.pixels.depth import HEAD_BYTES, Depth, depth_of, may_be_deep
from imgcls.data.pixels.formats import open_image

# side of the thumbnail that is compared, and how many of its lowest frequencies are
_SIDE = 16
_LUMA, _CHROMA = 8, 2
SIGNATURE_SIZE = _LUMA**2 + 2 * _CHROMA**2
# JPEGs are decoded at an eighth of their size where that is still no smaller than this
_ENOUGH_PIXELS = 64
# a JPEG's own noise around one colour
_CONSTANT_RANGE = 3


@dataclass(frozen=True)
class PictureFacts:
    """One picture. `reason` is not empty when it cannot be read; then the rest may be unknown.

    digest: SHA-256 of the encoded picture. depth: of a picture of more than eight bits, from
    `measure` alone. signature: float32 [72], the lowest frequencies of a small thumbnail in grey
    levels (see `signature_of`).
    """

    digest: bytes
    reason: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    constant: bool = False
    depth: Depth | None = None
    signature: np.ndarray | None = None


def examine(content: bytes, settings: DecodeSettings) -> PictureFacts:
    """Everything the audit wants to know; the picture is decoded to its end."""
    digest = hashlib.sha256(content).digest()
    try:
        # first what training does with it, so that the reasons are training's
        image = decode(content, settings, enough_pixels=_ENOUGH_PIXELS)
        file_format, mode, (width, height) = _header(content)
    except UnreadableImageError as error:
        return PictureFacts(digest, reason=str(error))
    low_high = np.atleast_2d(image.getextrema())
    return PictureFacts(
        digest,
        format=file_format,
        mode=mode,
        width=width,
        height=height,
        constant=bool((low_high[:, 1] - low_high[:, 0] <= _CONSTANT_RANGE).all()),
        signature=signature_of(image),
    )


def check(content: bytes, settings: DecodeSettings) -> PictureFacts:
    """The facts that the pre-flight needs: digest, header, and whether the picture is whole.

    A JPEG that ends in its end marker and a PNG of eight bits whose checksums are right are whole
    without being decoded; inside a JPEG's data that marker cannot occur by chance, because 0xFF is
    followed by 0 there. All else is decoded.
    """
    digest = hashlib.sha256(content).digest()
    try:
        file_format, mode, (width, height) = _header(content)
        if width * height > settings.max_pixels or not _is_whole(content, file_format):
            decode(content, settings)
    except UnreadableImageError as error:
        return PictureFacts(digest, reason=str(error))
    return PictureFacts(digest, "", file_format, mode, width, height)


def measure(content: bytes, settings: DecodeSettings) -> PictureFacts:
    """The depth alone; None of a picture that cannot be read, which is reported elsewhere."""
    if may_be_deep(content[:HEAD_BYTES]):
        try:
            with opened(content, settings) as image:
                return PictureFacts(b"", depth=depth_of(image, content))
        except UnreadableImageError:
            pass
    return PictureFacts(b"")


def signature_of(image: Image.Image) -> np.ndarray:
    """The lowest frequencies of a picture: float32 [72], in grey levels.

    The discrete cosine transform of a 16 x 16 thumbnail in YCbCr: 8 x 8 coefficients of luma, 2 x 2
    of each chroma channel, scaled so that the distance between two signatures is the root mean
    square difference of the two pictures' low frequencies. pHash keeps the signs of such
    coefficients (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions,
    2010); keeping their values tells alike from the same.
    """
    small = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(small.convert("YCbCr"), dtype=np.float32)
    waves = dctn(pixels, axes=(0, 1), norm="ortho") / _SIDE
    return np.concatenate(
        [waves[:_LUMA, :_LUMA, 0].ravel(), waves[:_CHROMA, :_CHROMA, 1:].ravel()]
    ).astype(np.float32)


def contrast_of(signatures: np.ndarray) -> np.ndarray:
    """How far pictures are from one flat colour, in grey levels: float32 [N] of [N, 72]."""
    means = np.isin(np.arange(SIGNATURE_SIZE), (0, _LUMA**2, _LUMA**2 + 1))
    contrast: np.ndarray = np.sqrt((signatures[:, ~means] ** 2).sum(axis=1))
    return contrast


def _header(content: bytes) -> tuple[str, str, tuple[int, int]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(content) as image:
                return image.format or "", image.mode, image.size
    except Exception:  # noqa: BLE001  `decode` has the words for whatever it is
        return "", "", (0, 0)


def _is_whole(content: bytes, file_format: str) -> bool:
    if file_format == "JPEG":
        return content.rstrip(b"\0").endswith(b"\xff\xd9")
    if file_format == "PNG" and not may_be_deep(content[:HEAD_BYTES]):
        try:
            with open_image(content) as image:
                image.verify()
        except Exception:  # noqa: BLE001  whatever it is, decoding will tell
            return False
        return True
    return False
