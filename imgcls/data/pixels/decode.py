"""Decodes a picture's bytes to pixels: upright, eight bits, the model's channels."""

from __future__ import annotations

import contextlib
import errno
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image, ImageColor, UnidentifiedImageError

from imgcls.config.files import open_file
from imgcls.data.pixels.crops import ChooseCrop, Crop
from imgcls.data.pixels.depth import by_own_range, in_eight_bits, require_readable
from imgcls.data.pixels.formats import open_image
from imgcls.data.pixels.jpeg import decode_jpeg
from imgcls.data.pixels.resize import ON_ITS_SIDE, shrink
from imgcls.errors import ConfigError, ReadError

MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_JPEGS = ("JPEG", "MPO")
# modes and channels between which resizing and converting may change places
_LEFT_AS_THEY_ARE = (("L", 1), ("L", 3), ("RGB", 3))

# what a system says of a file that is at fault itself, and not of memory, a disk or a mount
_OF_THE_FILE = frozenset(
    {
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.EILSEQ,
        errno.ENXIO,
    }
)


# a sparse file may claim a terabyte, and all that is there would be filled with it
LARGEST_FILE_BYTES = 8 * 2**30


class UnreadableImageError(Exception):
    """The picture cannot be decoded; the message is the reason, without the file's name."""


@dataclass(frozen=True)
class DecodeSettings:
    """How pictures become pixels; the same in training and wherever the model is used.

    channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. background: the colour below
    transparent pixels where alpha is no channel. max_pixels: more than these are taken for a
    decompression bomb. bit_depth: the bits that a sample has where a file of more than eight does
    not say; None takes 16, and for 32 bits the picture's own range; UNKNOWN refuses it. declared:
    False for models from before what files say of their bits was looked at.
    """

    channels: int = 3
    background: str = "white"
    max_pixels: int = 178_956_970
    bit_depth: int | None = None
    declared: bool = True

    def __post_init__(self) -> None:
        try:
            ImageColor.getrgb(self.background)
        except ValueError:
            raise ConfigError(
                f"data.background (--background): {self.background!r} is no colour; give a name "
                "such as white, or #rrggbb"
            ) from None


def read_content(file: Path, size: int = -1) -> bytes:
    """The bytes of a file, or its first `size`.

    Raises UnreadableImageError with the reason, ReadError where the machine fails.
    """
    try:
        with open_file(file) as stream:
            stored = os.fstat(stream.fileno()).st_size
            if size < 0 and stored > LARGEST_FILE_BYTES:
                raise UnreadableImageError(too_large(stored))
            return stream.read(size)
    except FileNotFoundError:
        raise UnreadableImageError("the file is gone") from None
    except (OSError, MemoryError) as error:
        raise why_unreadable(error, str(file)) from error


def too_large(size_bytes: int) -> str:
    """Why a file of so many bytes is not read."""
    return f"is {size_bytes / 2**30:,.0f} GiB large, as no picture is that could be read"


def why_unreadable(error: Exception, location: str) -> UnreadableImageError | ReadError:
    """The error for a failed read: UnreadableImageError of a bad picture, ReadError of the machine.

    Want of memory or of open files, a failing disk and a mount that is gone are no faults of a
    picture: taken for one, they would thin the data.
    """
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    if is_of_machine(error):
        return ReadError(
            f"{location}: cannot be read now ({reason or 'out of memory'}); that is the machine's "
            "fault and not the picture's, so it is not left out: mend that and start again"
        )
    return UnreadableImageError(reason or type(error).__name__)


def is_of_machine(error: Exception) -> bool:
    """True when a read failed for want of memory or by the machine, not by the file itself."""
    if isinstance(error, OSError):
        return error.errno is not None and error.errno not in _OF_THE_FILE
    return isinstance(error, MemoryError)


def decode(
    content: bytes | Path | Image.Image,
    settings: DecodeSettings | None = None,
    *,
    enough_pixels: int | None = None,
) -> Image.Image:
    """The picture, turned as its EXIF orientation says, in the mode of the settings' channels.

    content: the encoded picture, its file, or one that is read. Of an animation the first frame.
    enough_pixels: a
    JPEG may come smaller, by an eighth, a quarter or a half, with sides no shorter than this; it is
    read to its end all the same, in a third of the time. Raises UnreadableImageError with the
    reason.
    """
    settings = settings or DecodeSettings()
    if isinstance(content, Path):
        content = read_content(content)
    with opened(content, settings) as image:
        # other formats may offer a thumbnail instead, which need not show the same
        if enough_pixels is not None and image.format in _JPEGS:
            image.draft(None, (enough_pixels, enough_pixels))
        pixels = _loaded(image, content, settings)
        return to_channels(_turned(pixels, _orientation(image)), settings)


def decode_crop(
    content: bytes | Image.Image, settings: DecodeSettings, choose: ChooseCrop
) -> Image.Image:
    """The part of `decode`'s picture that `choose` wants, decoding no more than it needs.

    choose: told the upright picture's (width, height). Raises UnreadableImageError with the reason.
    """
    with opened(content, settings) as image:
        pixels = image
        is_jpeg = isinstance(content, bytes) and image.format in _JPEGS
        if not is_jpeg:
            pixels = _loaded(image, content, settings)
        orientation = _orientation(image)
        crop = choose(_upright(image.size, orientation))
        small = _shrunk(content, image, orientation, crop, settings.channels)
        if small is not None:
            return crop.frame(to_channels(_turned(small, orientation), settings))
        if crop.reduction > 1 and is_jpeg:
            image.draft(None, (image.width // crop.reduction, image.height // crop.reduction))
        pixels.load()
        return crop.cut(to_channels(_turned(pixels, orientation), settings))


def _shrunk(
    content: bytes | Image.Image, image: Image.Image, orientation: int, crop: Crop, channels: int
) -> Image.Image | None:
    """The crop's part of a JPEG, not yet turned, the quick way; None where Pillow has to go."""
    if not isinstance(content, bytes) or image.format not in _JPEGS:
        return None
    if (image.mode, channels) not in _LEFT_AS_THEY_ARE:
        return None
    size = tuple(-(-side // crop.reduction) for side in image.size)
    part = crop.part(_upright((size[0], size[1]), orientation))
    if part is None:
        return None
    pixels = decode_jpeg(content, image.size, image.mode, reduction=crop.reduction)
    return None if pixels is None else Image.fromarray(shrink(pixels, part.as_stored(orientation)))


def _loaded(
    image: Image.Image, content: bytes | Image.Image, settings: DecodeSettings
) -> Image.Image:
    """The picture's pixels, of the right depth where the settings know it."""
    if settings.declared:
        encoded = content if isinstance(content, bytes) else b""
        deep = in_eight_bits(image, encoded, settings.bit_depth)
        if deep is not None:
            return deep
    image.load()
    return image


@contextlib.contextmanager
def opened(content: bytes | Image.Image, settings: DecodeSettings) -> Iterator[Image.Image]:
    """The picture before its pixels are decoded; what goes wrong is an UnreadableImageError.

    One that is read stays open. What is the machine's fault, such as MemoryError, stays what it is.
    """
    try:
        # what PIL remarks on odd metadata would be printed for each picture, without its name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _allow(settings.max_pixels)
            in_memory = isinstance(content, Image.Image)
            with contextlib.nullcontext(content) if in_memory else open_image(content) as image:
                _check_size(image, settings.max_pixels)
                require_readable(image)
                yield image
    except UnidentifiedImageError as error:
        raise UnreadableImageError(str(error)) from None
    except Image.DecompressionBombError:
        raise UnreadableImageError(_bomb(settings.max_pixels)) from None
    except UnreadableImageError:
        raise
    except Exception as error:  # PIL's readers answer damage with whatever they stumble over
        if is_of_machine(error):
            raise
        reason = " ".join(str(error).split())
        raise UnreadableImageError(reason or type(error).__name__) from error


def to_channels(image: Image.Image, settings: DecodeSettings) -> Image.Image:
    """The picture with eight bits in each of the settings' channels."""
    mode = MODES[settings.channels]
    if image.mode.startswith("I") or image.mode == "F":
        image = by_own_range(image)
    if image.has_transparency_data and not mode.endswith("A"):
        upper = image.convert("RGBA")
        below = Image.new("RGBA", upper.size, (*ImageColor.getrgb(settings.background)[:3], 255))
        image = Image.alpha_composite(below, upper)
    return image if image.mode == mode else _converted(image, mode)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    # PIL has no direct way to grey from palettes with alpha, CIELAB and others
    if mode in ("L", "LA") and image.mode not in ("1", "L", "LA", "RGB", "RGBA"):
        image = image.convert("RGBA" if mode == "LA" else "RGB")
    return image.convert(mode)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; damaged EXIF data say nothing, as the pixels are good."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001  damaged EXIF data may raise anything
        return 1
    return orientation if orientation in _TURNS else 1


def _upright(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size if orientation < ON_ITS_SIDE else size[::-1]


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    return image if orientation == 1 else image.transpose(_TURNS[orientation])


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise UnreadableImageError(_bomb(max_pixels))


def _bomb(max_pixels: int) -> str:
    return (
        f"has more than {max_pixels} pixels, as a decompression bomb would; raise "
        "--max-image-pixels if it is none"
    )


def _allow(max_pixels: int) -> None:
    # PIL's own limit is a global and raises at twice its value; it may only be in the way where
    # the user has raised ours
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > 2 * Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)
