"""The picture formats that are read, and words for files that are none of them.

Pillow knows some forty kinds, and its reader for EPS starts Ghostscript on whatever the file says:
only the kinds named here are ever tried, whatever a file is called.
"""

from __future__ import annotations

import contextlib
import functools
import io
import re
import struct
import warnings

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

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
        ".heic",
        ".heif",
        ".hif",
        ".jxl",
        ".dcm",
        ".dicom",
    ]
)
# Pillow's names of the kinds; its reader for JPEG reads MPO too
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")

# kind -> the extra that reads it
_EXTRAS = {
    "HEIF": "heif",
    "JXL": "jxl",
    "DICOM": "dicom",
}
_SPOKEN = {"HEIF": "HEIC", "JXL": "JPEG XL", "JPEG2000": "JPEG 2000"}
_NOT_READ = "not a picture format imgcls reads"
_TEXTS = (
    (
        re.compile(rb"version https://git-lfs\.github\.com/spec/"),
        "not a picture but a Git LFS pointer to one; `git lfs pull` fetches it",
    ),
    (
        re.compile(rb"\S{0,200}/annex/objects/"),
        "not a picture but a git-annex pointer to one; `git annex get` fetches it",
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
# tags of TIFF 6.0
_BITS, _SAMPLES, _SAMPLE_FORMAT, _STRIPS, _TILES = 258, 277, 339, 273, 324
_SAMPLE_KINDS = {1: "unsigned", 2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_RAW = frozenset(
    {
        ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".mrw", ".nef", ".nrw", ".orf",
        ".pef", ".raf", ".raw", ".rw2", ".srw",
    }
)  # fmt: skip
_SLIDES = frozenset([".bif", ".czi", ".mrxs", ".ndpi", ".scn", ".svs", ".vms"])
_TEXT_BYTES, _TEXT_SHOWN = 256, 60
_FTYP, _LONGEST_FTYP = slice(4, 8), 256
_DICM = slice(128, 132)
_HEIF_BRANDS = frozenset([b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"])
_AVIF_BRANDS = frozenset([b"avif", b"avis"])
# (first bytes, what such a file is); what Pillow opens is here only to say that it is damaged
_BEGINNINGS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\xff\x0a", "JXL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JXL"),
    (b"\0\0\0\x0cjP  ", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
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

    HEIF, JPEG XL and DICOM are read where their extra is installed. Raises
    PIL.UnidentifiedImageError, whose message says what the content is instead, and whatever the
    readers make of damage.
    """
    kind = kind_of(content)
    formats = (_extra(kind),) if kind in _EXTRAS else _formats()
    try:
        return Image.open(io.BytesIO(content), formats=[name for name in formats if name])
    except UnidentifiedImageError:
        raise UnidentifiedImageError(describe(content)) from None


def describe(content: bytes) -> str:
    """Words for content that is no picture: what the file seems to be instead."""
    if not content:
        return "the file is empty"
    if not content.strip(b"\0"):
        return "not a picture: nothing but zeros"
    for beginning, words in _TEXTS:
        if beginning.match(content[:1024]):
            return words
    kind = kind_of(content)
    return (
        (kind == "TIFF" and _tiff_layout(content))
        or (not kind and _as_text(content))
        or _describe_kind(kind)
    )


def _as_text(content: bytes) -> str:
    """Words for plain text, as servers answer instead of a picture; "" for anything else."""
    with contextlib.suppress(UnicodeDecodeError):
        text = " ".join(content[:_TEXT_BYTES].decode("ascii").split())
        if text.isprintable():
            shown = text if len(text) <= _TEXT_SHOWN else f"{text[:_TEXT_SHOWN]}..."
            return f"{_NOT_READ}, but text: {shown!r}"
    return ""


def _tiff_layout(content: bytes) -> str:
    """What a whole TIFF has in each pixel that Pillow does not read, "" for a damaged one."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
    file = io.BytesIO(content)
    try:
        file.seek(directory.next)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what is cut off is only warned of
            directory.load(file)
        bits, kinds = directory.get(_BITS, (1,)), directory.get(_SAMPLE_FORMAT, (1,))
        samples = int(directory.get(_SAMPLES, 1))
        kind = _SAMPLE_KINDS.get(kinds[0], "")
    except (ValueError, LookupError, TypeError, OSError, SyntaxError, struct.error, UserWarning):
        return ""
    if not directory.keys() >= {_BITS, _STRIPS} and not directory.keys() >= {_BITS, _TILES}:
        return ""
    return (
        f"TIFF with {samples} {kind} samples of {bits[0]} bits a pixel, or a compression, that "
        "imgcls does not read; save it as 8-bit or 16-bit grey or RGB"
    )


def why_not_found(kind: str, suffix: str) -> str:
    """What to do about files of a kind whose suffix is no picture's."""
    if suffix in _RAW:
        return "camera raw files, which imgcls does not read; develop them to JPEG, PNG or TIFF"
    if suffix in _SLIDES:
        return "whole slides, which imgcls does not read; cut them into tiles"
    spoken = _SPOKEN.get(kind, kind)
    if kind in FORMATS or kind in _EXTRAS:
        return (
            f"{spoken} by their content; give them the suffix of their format, or name them in a "
            "table"
        )
    way = {"ZIP": "unpack them", "gzip": "unpack them", "video": "take pictures out of them"}
    return (
        f"{spoken} by their content, which imgcls does not read; "
        f"{way.get(kind, 'convert them to PNG, JPEG or TIFF')}"
    )


def _describe_kind(kind: str) -> str:
    name = _SPOKEN.get(kind, kind)
    if kind in _EXTRAS and not _extra(kind):
        return f'{name}, which an extra reads: pip install "imgcls[{_EXTRAS[kind]}]"'
    if kind == "AVIF" and kind not in _formats():
        return "AVIF, which this Pillow was built without: pip install --force-reinstall pillow"
    if kind in FORMATS or kind in _EXTRAS:
        return f"not a picture: begins as {name} does, but is damaged or cut off"
    return f"{kind}, {_NOT_READ}" if kind else _NOT_READ


def kind_of(content: bytes) -> str:
    """The name of the content's kind by its first bytes, "" for one that is not known here."""
    if content[_FTYP] == b"ftyp":
        size = min(int.from_bytes(content[:4], "big"), _LONGEST_FTYP)
        brands = {content[at : at + 4] for at in range(8, size, 4)}
        return "AVIF" if brands & _AVIF_BRANDS else "HEIF" if brands & _HEIF_BRANDS else "video"
    if content[_DICM] == b"DICM":
        return "DICOM"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for start, kind in _BEGINNINGS if content.startswith(start)), "")


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow was built with: it stumbles over names it has not."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@functools.cache
def _extra(kind: str) -> str:
    """Pillow's name of a kind that an extra reads, its reader now known to Pillow; "" without."""
    try:
        if kind == "HEIF":
            from pillow_heif import register_heif_opener

            register_heif_opener()
        elif kind == "JXL":
            import pillow_jxl  # noqa: F401  registers itself
        else:
            from imgcls.data.pixels.dicom import register

            register()
    except ImportError:
        return ""
    return kind
