"""However a picture is stored, the model sees the same one; whatever is broken has a reason."""

from __future__ import annotations

import csv
import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_pictures import BROKEN, COLOUR, GREY, GREYS, PHOTO, encoded
from PIL import Image

from imgcls.config.reading import ReadingConfig
from imgcls.data.open import open_source
from imgcls.data.pixels.decode import DecodeSettings, UnreadableImageError, decode, decode_crop


def distance(image, expected):
    assert image.size == expected.size
    assert image.mode == expected.mode
    return np.abs(np.asarray(image, dtype=float) - np.asarray(expected, dtype=float)).mean()


@pytest.mark.parametrize("case", COLOUR)
def test_a_photograph_is_the_same_however_it_is_stored(case):
    """Upright, its colours right, the first frame; lossy kinds come within their loss."""
    exact = any(kind in case for kind in ("PNG", "TIFF", "BMP", "PPM", "RGBA", "2000"))
    # turned or inverted, it is farther than 50
    assert distance(decode(COLOUR[case]), PHOTO) < (1.5 if exact else 10)
    grey = decode(COLOUR[case], DecodeSettings(channels=1))
    assert distance(grey, GREY) < (1.5 if exact else 10)


@pytest.mark.parametrize("case", GREYS)
def test_grey_is_the_same_in_any_depth(case):
    """16 and 32 bits are scaled, not clipped; three equal channels, or the one."""
    assert distance(decode(GREYS[case]), GREY.convert("RGB")) == 0
    assert distance(decode(GREYS[case], DecodeSettings(channels=1)), GREY) == 0


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_has_a_reason(case):
    """One line of words, not a half grey picture."""
    content, words = BROKEN[case]
    with pytest.raises(UnreadableImageError) as caught:
        decode(content)
    assert words in str(caught.value).lower()
    assert "\n" not in str(caught.value)


PALETTE = Image.new("P", (4, 4), 3)
PALETTE.putpalette([9] * 30)
TRANSPARENT = {
    "RGBA": encoded(Image.new("RGBA", (4, 4), (9, 9, 9, 0)), "PNG"),
    "half": encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG"),
    "grey and alpha": encoded(Image.new("LA", (4, 4), (9, 0)), "PNG"),
    "palette": encoded(PALETTE, "PNG", transparency=3),
    "palette with many": encoded(PALETTE, "PNG", transparency=bytes(9)),
    "GIF": encoded(PALETTE, "GIF", transparency=3),
    "RGB with a transparent colour": encoded(
        Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3)
    ),
    "grey with a transparent value": encoded(Image.new("L", (4, 4), 7), "PNG", transparency=7),
}


@pytest.mark.parametrize("case", TRANSPARENT)
def test_transparency_shows_the_background(case):
    """White, or as --background says, in colour and in grey."""
    share = 127 / 255 if case == "half" else 1.0
    white = decode(TRANSPARENT[case]).getpixel((1, 1))
    assert white == pytest.approx((255 * share,) * 3, abs=1)
    blue = decode(TRANSPARENT[case], DecodeSettings(background="#0000ff")).getpixel((1, 1))
    assert blue == pytest.approx((0, 0, 255 * share), abs=1)
    grey = decode(TRANSPARENT[case], DecodeSettings(channels=1, background="black"))
    assert grey.getpixel((1, 1)) == 0


def test_floats_keep_their_range():
    """Beyond 0 to 1 they are scaled by the picture's own range; nan is its lowest value."""
    pixels = np.array([[-3.0, np.nan], [1.0, 5.0]], np.float32)
    grey = decode(encoded(Image.fromarray(pixels), "TIFF"), DecodeSettings(channels=1))
    assert np.asarray(grey).tolist() == [[0, 0], [128, 255]]
    wide = np.array([[0, 2**20], [2**19, 2**20]], np.int32)
    grey = decode(encoded(Image.fromarray(wide), "TIFF"), DecodeSettings(channels=1))
    assert np.asarray(grey).tolist() == [[0, 255], [128, 255]]


class Whole:
    """A crop that wants the picture as it is, and remembers how large it was told that is."""

    reduction = 1

    def cut(self, image):
        return image

    def part(self, size):
        return None

    def __call__(self, size):
        self.size = size
        return self


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_cutting_while_decoding_sees_the_same_picture(channels):
    """The loader's way, which decodes no more than it needs: same size, same pixels."""
    decoding = DecodeSettings(channels=channels, background="black")
    for case, content in {**COLOUR, **GREYS, **TRANSPARENT}.items():
        expected, whole = decode(content, decoding), Whole()
        cut = decode_crop(content, decoding, whole)
        assert whole.size == expected.size, case
        difference = np.asarray(cut, dtype=int) - np.asarray(expected, dtype=int)
        assert np.abs(difference).max() <= 1, case
    for case, (content, words) in BROKEN.items():
        with pytest.raises(UnreadableImageError) as caught:
            decode_crop(content, decoding, Whole())
        assert words in str(caught.value).lower(), case


WAYS = {
    "whole": decode,
    "cut": lambda content: decode_crop(content, DecodeSettings(), Whole()),
}


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(COLOUR)),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8),
    st.one_of(st.none(), st.integers(0, 2000)),
)
def test_no_damage_escapes_as_another_error(way, case, changes, end):
    """Any bytes changed, any end cut off: a picture or a reason."""
    content = bytearray(COLOUR[case])
    for place, value in changes:
        content[place % len(content)] = value
    try:
        assert WAYS[way](bytes(content[:end])).mode == "RGB"
    except UnreadableImageError as error:
        assert str(error)


def test_one_file_gives_the_same_pixels_by_every_way(tmp_path):
    """In a folder, in a table, in Parquet and in a tar shard (ultralytics#23630)."""
    cases = {f"{number:02d}.png": content for number, content in enumerate(COLOUR.values())}
    for label in ("a", "b"):
        (tmp_path / "folder" / label).mkdir(parents=True)
        for name, content in cases.items():
            (tmp_path / "folder" / label / name).write_bytes(content)
    with (tmp_path / "m.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["path", "label"], *([f"a/{n}", "a"] for n in cases)])
    pictures = pa.array(list(cases.values()), pa.binary())
    pq.write_table(
        pa.table({"image": pictures, "label": ["a"] * len(cases)}), tmp_path / "m.parquet"
    )
    with tarfile.open(tmp_path / "m.tar", "w") as archive:
        for name, content in cases.items():
            for member, data in ((name, content), (name[:-3] + "cls", b"a")):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    decoding = DecodeSettings(background="black")
    for spec, reading in (
        ("folder", ReadingConfig()),
        ("m.csv", ReadingConfig(root=tmp_path / "folder")),
        ("m.parquet", ReadingConfig()),
        ("m.tar", ReadingConfig()),
    ):
        table = open_source(str(tmp_path / spec), reading, decoding)
        for row, content in enumerate(cases.values()):
            assert distance(table.images.open(row), decode(content, decoding)) == 0, spec
