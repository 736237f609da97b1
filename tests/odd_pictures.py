"""One photograph, stored in every way that people's pictures are stored, and damaged."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageChops, ImageCms
from sklearn.datasets import load_sample_images

PHOTO = Image.fromarray(load_sample_images().images[0][200:296, 200:328])
GREY = PHOTO.convert("L")
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encoded(image, kind, **options):
    """The picture as a file of that kind."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(kind, orientation):
    """Stored as a camera held that way stores it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    quality = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    return encoded(PHOTO.transpose(TURNS[orientation]), kind, exif=exif, **quality)


def deep_png(pixels):
    """uint16 [H, W, 1, 2, 3 or 4] as a PNG of 16 bits, which PIL itself does not write."""
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)

    def chunk(name, content):
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def without_adobe_marker(jpeg):
    """The same CMYK JPEG without the segment that says that its inks are inverted."""
    start = jpeg.index(b"\xff\xee")
    [length] = struct.unpack(">H", jpeg[start + 2 : start + 4])
    return jpeg[:start] + jpeg[start + 2 + length :]


def animation(kind):
    """The photograph, then its negative."""
    return encoded(PHOTO, kind, save_all=True, append_images=[ImageChops.invert(PHOTO)])


def lab():
    """The photograph in CIELAB."""
    profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    return ImageCms.applyTransform(PHOTO, ImageCms.buildTransform(*profiles, "RGB", "LAB"))


_deep = np.asarray(PHOTO).astype(np.uint16) * 257
_deep_grey = np.asarray(GREY).astype(np.uint16)[:, :, None] * 257
_opaque = np.full_like(_deep_grey, 65535)
_palette = PHOTO.quantize(255)

# what shows the photograph in colour: {case: bytes}
COLOUR = {
    "JPEG": encoded(PHOTO, "JPEG", quality=95),
    "progressive JPEG": encoded(PHOTO, "JPEG", quality=95, progressive=True),
    **{f"JPEG, orientation {n}": turned("JPEG", n) for n in TURNS},
    **{f"{kind}, orientation 6": turned(kind, 6) for kind in ("PNG", "TIFF", "WEBP")},
    "damaged EXIF": encoded(
        PHOTO, "JPEG", quality=95, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xffgarbage"
    ),
    "CMYK JPEG, inverted by Adobe": encoded(PHOTO.convert("CMYK"), "JPEG", quality=95),
    "CMYK JPEG without Adobe's marker": without_adobe_marker(
        encoded(PHOTO.convert("CMYK"), "JPEG", quality=95)
    ),
    "CMYK TIFF": encoded(PHOTO.convert("CMYK"), "TIFF"),
    "YCbCr TIFF": encoded(PHOTO.convert("YCbCr"), "TIFF"),
    "CIELAB TIFF": encoded(lab(), "TIFF"),
    "RGBA": encoded(PHOTO.convert("RGBA"), "PNG"),
    "palette": encoded(_palette, "PNG"),
    "palette with an unused transparent colour": encoded(_palette, "PNG", transparency=255),
    "16-bit RGB PNG": deep_png(_deep),
    "16-bit RGBA PNG": deep_png(np.concatenate([_deep, _opaque], 2)),
    **{f"animated {kind}": animation(kind) for kind in ("GIF", "PNG", "WEBP", "TIFF", "MPO")},
    "BMP": encoded(PHOTO, "BMP"),
    "PPM": encoded(PHOTO, "PPM"),
    "JPEG 2000": encoded(PHOTO, "JPEG2000"),
}

# what shows it in grey, to the exact value
GREYS = {
    "grey PNG": encoded(GREY, "PNG"),
    "grey and alpha": encoded(GREY.convert("LA"), "PNG"),
    "16-bit PNG": deep_png(_deep_grey),
    "16-bit PNG with alpha": deep_png(np.concatenate([_deep_grey, _opaque], 2)),
    "16-bit TIFF": encoded(Image.fromarray(_deep_grey[:, :, 0]), "TIFF"),
    "32-bit TIFF": encoded(Image.fromarray(_deep_grey[:, :, 0].astype(np.int32)), "TIFF"),
    "float TIFF from 0 to 1": encoded(
        Image.fromarray((np.asarray(GREY) / 255).astype(np.float32)), "TIFF"
    ),
}

_jpeg, _png = encoded(PHOTO, "JPEG"), encoded(PHOTO, "PNG")

# what cannot be read: {case: (bytes, a word of the reason)}
BROKEN = {
    "empty": (b"", "empty"),
    "text": (b"<!DOCTYPE html><title>404</title>", "not a picture"),
    "zeros": (bytes(5000), "not a picture"),
    "truncated JPEG": (_jpeg[: len(_jpeg) // 2], "truncated"),
    "JPEG without its last bytes": (_jpeg[:-300], "truncated"),
    "JPEG's header alone": (_jpeg[:20], "not a picture"),
    "truncated PNG": (_png[: len(_png) // 2], "truncated"),
    "damaged PNG": (_png[:200] + b"damage" + _png[206:], ""),
    "truncated GIF": (encoded(PHOTO, "GIF")[:4000], "truncated"),
    "truncated WebP": (encoded(PHOTO, "WEBP")[:-700], ""),
    "truncated TIFF": (encoded(PHOTO, "TIFF", compression="tiff_lzw")[:9000], ""),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
}
