"""One decode path: upright, three channels, eight bits, or a reason."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from imgcls.data.pixels.decode import DecodeSettings, UnreadableImageError, decode


def test_exif_orientation_is_applied(tmp_path):
    """A picture taken sideways reaches the model upright."""
    pixels = np.zeros((10, 20, 3), np.uint8)
    pixels[:, :10] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side: turn by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    image = decode(tmp_path / "a.png")
    assert image.size == (10, 20)
    assert image.getpixel((5, 2)) == (255, 0, 0)
    assert image.getpixel((5, 17)) == (0, 0, 0)


def test_transparency_lies_on_white(tmp_path):
    """RGBA and palettes with transparency."""
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(("mode", "value", "expected"), [("L", 77, 77), ("1", 1, 255)])
def test_one_channel_becomes_three(tmp_path, mode, value, expected):
    """Grey and black-and-white pictures."""
    Image.new(mode, (4, 4), value).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png").getpixel((1, 1)) == (expected,) * 3


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    """A 16-bit ramp keeps its shape."""
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    grey = np.asarray(decode(tmp_path / "a.png"))[:, :, 0].ravel()
    assert np.array_equal(grey, np.arange(256))


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "gone"])
def test_an_unreadable_picture_gives_a_reason(tmp_path, damage):
    """Whatever is wrong, it is one kind of error with words."""
    file = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file)
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "text":
        file.write_text("hello")
    else:
        file.unlink()
    with pytest.raises(UnreadableImageError) as caught:
        decode(file)
    assert str(caught.value)


def test_bytes_and_file_give_the_same_pixels(tmp_path):
    """Tables hold files or bytes; there is one way through."""
    noise = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    whole = decode((tmp_path / "a.jpg").read_bytes())
    assert np.array_equal(np.asarray(whole), np.asarray(decode(tmp_path / "a.jpg")))


def test_transparency_may_lie_on_another_colour(tmp_path):
    """--background, by name or as #rrggbb."""
    Image.new("RGBA", (4, 4), (10, 20, 30, 0)).save(tmp_path / "a.png")
    settings = DecodeSettings(background="#0a0b0c")
    assert decode(tmp_path / "a.png", settings).getpixel((0, 0)) == (10, 11, 12)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_every_mode_reaches_every_number_of_channels(tmp_path, channels, mode):
    """What the model takes is what it gets, in eight bits."""
    image = Image.new(mode, (5, 4))
    image.save(tmp_path / "a.tif")
    decoded = decode(tmp_path / "a.tif", DecodeSettings(channels=channels))
    assert len(decoded.getbands()) == channels
    assert np.asarray(decoded).dtype == np.uint8


def test_a_decompression_bomb_names_the_option(tmp_path, monkeypatch):
    """Also where PIL itself would have stopped, and not when the limit was raised."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("L", (100, 50)).save(tmp_path / "a.png")
    for limit in (2000, 4999):
        with pytest.raises(UnreadableImageError, match=f"more than {limit} .* --max-image-pixels"):
            decode(tmp_path / "a.png", DecodeSettings(max_pixels=limit))
    assert decode(tmp_path / "a.png", DecodeSettings(max_pixels=5000)).size == (100, 50)


def test_a_sparse_file_of_a_terabyte_is_no_picture(tmp_path):
    """It would fill the memory, which is no fault of the machine."""
    file = tmp_path / "huge.png"
    with file.open("wb") as stream:
        stream.truncate(2**40)
    with pytest.raises(UnreadableImageError, match="1,024 GiB large"):
        decode(file)
