"""Which kinds of picture are read, and what a file is that is none of them.

Pillow knows some forty kinds, and its reader for EPS starts Ghostscript on whatever the file says:
only the kinds named here are ever tried, whatever a file is called.
"""

from __future__ import annotations

import functools
import io
import re

from PIL import Image, UnidentifiedImageError

IMAGE_SUFFIXES = frozenset(
    [
        ".png",
        ".jpg",
        ".jpeg",
        ".jfif",
        ".webp",
        ".avif",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pnm",
        ".jp2",
    ]
)
# Pillow's names of the kinds; its reader for JPEG reads MPO too
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")

_NOT_READ = "not a picture format imgcls reads"
_TEXTS = (
    (
        re.compile(rb"version https://git-lfs\.github\.com/spec/"),
        "not a picture but a Git LFS pointer to one; `git lfs pull` fetches it",
    ),
    (
        re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body)\b", re.IGNORECASE),
        "not a picture but an HTML page, as a download that failed leaves it",
    ),
    (
        re.compile(
            rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype )?svg\b",
            re.IGNORECASE | re.DOTALL,
        ),
        f"SVG, {_NOT_READ}",
    ),
)
_FTYP = slice(4, 8)
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_AVIF_BRANDS = (b"avif", b"avis")
# (first bytes, what such a file is); what Pillow opens is here only to say that it is damaged
_BEGINNINGS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"%PDF", "PDF"),
    (b"8BPS", "Photoshop"),
    (b"PK\x03\x04", "ZIP"),
    (b"\x1f\x8b", "gzip"),
    (b"SIMPLE  =", "FITS"),
    (b"\x89HDF\r\n", "HDF5"),
    (b"\0\0\x01\0", "ICO"),
    (b"icns", "ICNS"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
)


def open_image(content: bytes) -> Image.Image:
    """The picture, its pixels not yet decoded, by a reader of one of FORMATS and no other.

    Raises PIL.UnidentifiedImageError, whose message says what the content is instead, and whatever
    Pillow's readers make of damage.
    """
    try:
        return Image.open(io.BytesIO(content), formats=_formats())
    except UnidentifiedImageError:
        raise UnidentifiedImageError(describe(content)) from None


def describe(content: bytes) -> str:
    """What content is that is no picture, in words for the person who has the file."""
    if not content:
        return "the file is empty"
    if not content.strip(b"\0"):
        return "not a picture: nothing but zeros"
    for beginning, words in _TEXTS:
        if beginning.match(content[:1024]):
            return words
    kind = kind_of(content)
    if kind in FORMATS:
        return f"not a picture: begins as {kind} does, but is damaged or cut off"
    return f"{kind}, {_NOT_READ}" if kind else _NOT_READ


def kind_of(content: bytes) -> str:
    """The name of the content's kind by its first bytes, "" for one that is not known here."""
    if content[_FTYP] == b"ftyp":
        brand = content[8:12]
        return "HEIC" if brand in _HEIC_BRANDS else "AVIF" if brand in _AVIF_BRANDS else "video"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for start, kind in _BEGINNINGS if content.startswith(start)), "")


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow was built with: it stumbles over names it has not."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)
