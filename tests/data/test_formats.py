"""Only the formats that are named are ever tried, and all else is said by name."""

from __future__ import annotations

import io
import struct
import warnings

import pytest
from odd_pictures import PHOTO, encoded
from PIL import EpsImagePlugin, Image, UnidentifiedImageError

from imgcls.data.audit.picture import check, examine
from imgcls.data.pixels.decode import DecodeSettings, UnreadableImageError, decode, decode_crop
from imgcls.data.pixels.formats import FORMATS, describe, open_image

Image.init()
READ = {*FORMATS, "MPO"}
FOREIGN = sorted(set(Image.OPEN) - READ - {"HEIF", "JXL", "DICOM"})
EPS = encoded(PHOTO, "EPS")
DOORS = {
    "decode": decode,
    "decode_crop": lambda content: decode_crop(content, DecodeSettings(), lambda size: size),
    "inspect": lambda content: examine(content, DecodeSettings()),
    "pre-flight": lambda content: check(content, DecodeSettings()),
}


def through(door, content):
    """What a door says of content; a picture's own reason where it does not raise."""
    try:
        return getattr(DOORS[door](content), "reason", "")
    except UnreadableImageError as error:
        return str(error)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("plugin", FOREIGN)
def test_no_other_reader_of_pillow_is_ever_started(plugin, door, monkeypatch):
    """Even where a file would satisfy it: the reader accepts all and must not be asked."""
    asked = []

    def factory(stream, name=None):
        asked.append(plugin)
        return PHOTO.copy()

    monkeypatch.setitem(Image.OPEN, plugin, (factory, lambda prefix: True))
    assert through(door, b"\0" * 64 + b"%!PS-Adobe-3.0 EPSF-3.0\n")
    assert not asked


@pytest.mark.parametrize("door", DOORS)
def test_a_jpg_that_is_eps_starts_no_ghostscript(door, monkeypatch):
    """PostScript is a program; a picture called .jpg must not be one that runs."""
    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *a, **k: pytest.fail("Ghostscript was started")
    )
    assert through(door, EPS) == "EPS, not a picture format imgcls reads"


WRITTEN = ("BLP", "DDS", "EPS", "ICNS", "ICO", "IM", "MSP", "PCX", "PDF", "QOI", "SGI",
           "SPIDER", "TGA", "XBM")  # fmt: skip


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_real_picture_of_another_format_is_refused(kind):
    """As Pillow itself writes them."""
    modes = {"MSP": "1", "XBM": "1", "BLP": "P", "SPIDER": "F"}
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        PHOTO.resize((64, 64)).convert(modes.get(kind, "RGB")).save(stream, kind)
    with pytest.raises(UnreadableImageError, match="not a picture format imgcls reads"):
        decode(stream.getvalue())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"\0" * 99, "nothing but zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"\n<!DOCTYPE html>\n<title>404", "an HTML page"),
        (b"<html><body>", "an HTML page"),
        (b"<?xml version='1.0'?>\n<!-- by hand --><svg xmlns='x'/>", "SVG, not a picture format"),
        (b"%PDF-1.7", "PDF, not a picture format"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "video, not a picture format"),
        (encoded(PHOTO, "JPEG")[:20], "begins as JPEG does, but is damaged"),
        (b"../../.git/annex/objects/x/y/SHA256E-s1--0.jpg\n", "git annex get"),
        (b'{"message":\n"Forbidden"}', """reads, but text: '{"message": "Forbidden"}'"""),
        (b"x" * 500, "but text: '" + "x" * 60 + "...'"),
        (b"hello", "not a picture format imgcls reads, but text: 'hello'"),
        (b"h\xe9llo", "not a picture format imgcls reads"),
    ],
)
def test_what_is_no_picture_is_said_by_name(content, words):
    """A pointer, a page, an empty file: each wants another remedy."""
    assert words in describe(content)
    with pytest.raises(UnreadableImageError) as caught:
        decode(content)
    assert str(caught.value) == describe(content)


def test_a_tiff_that_pillow_does_not_read_is_not_called_damaged():
    """Microscopes write five channels, and programs floats of 64 bits."""

    def tiff(samples, bits, kind):
        data = b"\0" * (8 * 8 * samples * bits // 8)
        tags = [
            (256, 8), (257, 8), (258, bits), (259, 1), (262, 1), (273, 8), (277, samples),
            (278, 8), (279, len(data)), (339, kind),
        ]  # fmt: skip
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        directory = struct.pack("<H", len(tags)) + entries + b"\0" * 4
        return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory

    for samples, bits, kind, words in (
        (5, 8, 1, "TIFF with 5 unsigned samples of 8 bits"),
        (1, 64, 3, "TIFF with 1 floating-point samples of 64 bits"),
    ):
        with pytest.raises(UnidentifiedImageError, match=words):
            open_image(tiff(samples, bits, kind))
        assert "damaged or cut off" in describe(tiff(samples, bits, kind)[:-90])
