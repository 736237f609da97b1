"""10, 12 and 14 bits reach the model as all of its grey levels, on one scale for a data set."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from odd_pictures import deep_png, encoded
from PIL import Image

from imgcls.config.reading import ReadingConfig
from imgcls.data.audit.depths import measure_depths
from imgcls.data.open import open_source
from imgcls.data.pixels.decode import DecodeSettings, UnreadableImageError, decode

RAMP = np.linspace(0, 4095, 256).round().astype(np.uint16).reshape(16, 16)
COLOURS = np.stack([RAMP, RAMP[::-1], RAMP.T], axis=2)


def eight(samples, top=4095):
    return np.rint(samples * (255 / top)).astype(np.uint8)


def tiff(samples, *, bits=16, order="<", deflated=False, planes=1, extra=()):
    """uint16 [H, W] or [H, W, C] as a baseline TIFF; of 12 bits, two samples in three bytes."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    data = samples.astype(f"{order}u2").tobytes()
    if bits == 12:
        pair = samples.reshape(-1, 2).astype(np.uint32)
        value = pair[:, 0] << 12 | pair[:, 1]
        data = np.stack([value >> 16, value >> 8 & 255, value & 255], 1).astype(np.uint8).tobytes()
    data = zlib.compress(data) if deflated else data
    at, colour = 8 + len(data), 2 if channels > 2 else 1
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 8 if deflated else 1)]
    tags += [(262, 3, colour), (273, 4, 8), (277, 3, channels), (278, 4, height)]
    tags += [(279, 4, len(data)), *extra, (284, 3, planes)]
    tags = sorted([*tags, (338, 3, 2)] if channels == 4 else tags)
    table = struct.pack(f"{order}H", len(tags))
    after = at + 2 + 12 * len(tags) + 4
    for tag, kind, value in tags:
        if tag == 258 and channels > 2:
            table += struct.pack(f"{order}HHII", tag, kind, channels, after)
        elif kind == 3:
            table += struct.pack(f"{order}HHIHH", tag, kind, 1, value, 0)
        else:
            table += struct.pack(f"{order}HHII", tag, kind, 1, value)
    end = bytes(4) + struct.pack(f"{order}{channels}H", *[bits] * channels)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(f"{order}I", at) + data + table + end


def with_sbit(png, bits):
    """The PNG with the chunk sBIT behind its header."""
    chunk = b"sBIT" + bytes([bits])
    return png[:33] + struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[33:]


OPAQUE = np.full((16, 16, 1), 65535, np.uint16)
UNDECLARED = {
    "grey TIFF": (tiff(RAMP), RAMP),
    "grey TIFF of a Mac": (tiff(RAMP, order=">"), RAMP),
    "colour TIFF": (tiff(COLOURS), COLOURS),
    "colour TIFF of a Mac": (tiff(COLOURS, order=">"), COLOURS),
    "deflated colour TIFF": (tiff(COLOURS, deflated=True), COLOURS),
    "TIFF with alpha": (tiff(np.concatenate([COLOURS, OPAQUE], 2)), COLOURS),
    "grey PNG": (deep_png(RAMP[..., None]), RAMP),
    "grey PNG with alpha": (deep_png(np.concatenate([RAMP[..., None], OPAQUE], 2)), RAMP),
    "colour PNG": (deep_png(COLOURS), COLOURS),
    "PNG with alpha": (deep_png(np.concatenate([COLOURS, OPAQUE], 2)), COLOURS),
    "32-bit TIFF": (encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"), RAMP),
    "float TIFF": (encoded(Image.fromarray(RAMP.astype(np.float32)), "TIFF"), RAMP),
}


@pytest.mark.parametrize("case", UNDECLARED)
def test_twelve_bits_in_sixteen_fill_the_eight(case):
    """Grey and colour, in either byte order: no level is lost to the upper byte."""
    content, samples = UNDECLARED[case]
    channels = 1 if samples.ndim == 2 else 3
    image = decode(content, DecodeSettings(channels=channels, bit_depth=12))
    assert np.array_equal(np.asarray(image), eight(samples))


@pytest.mark.parametrize("case", UNDECLARED)
def test_a_sample_above_the_depth_is_refused(case):
    """It is neither clipped nor wrapped; the reason has the sample and the option."""
    with pytest.raises(
        UnreadableImageError, match=r"up to 4,095, where a depth of 10 bits .*--bit"
    ):
        decode(UNDECLARED[case][0], DecodeSettings(bit_depth=10))


def jpeg2000_of_12_bits():
    """What a codec of 12 bits writes: another level shift and the precision in the header."""
    stored = io.BytesIO()
    Image.fromarray(RAMP + np.uint16(2**15 - 2**11)).save(stored, "JPEG2000")
    content = bytearray(stored.getvalue())
    at = content.find(b"\xff\x51") + 40
    assert content[at] == 15
    content[at] = 11
    return bytes(content)


DECLARED = {
    "BitsPerSample 12": tiff(RAMP, bits=12),
    "SMaxSampleValue": tiff(RAMP, extra=[(341, 3, 4095)]),
    "MaxSampleValue": tiff(RAMP, extra=[(281, 3, 4095)]),
    "precision of JPEG 2000": jpeg2000_of_12_bits(),
    "maxval of PGM": b"P5 16 16 4095\n" + RAMP.astype(">u2").tobytes(),
}


@pytest.mark.parametrize("bits", [None, 10, 16])
@pytest.mark.parametrize("case", DECLARED)
def test_what_a_file_declares_wins(case, bits):
    """Whatever the depth of the other pictures is."""
    image = decode(DECLARED[case], DecodeSettings(channels=1, bit_depth=bits))
    assert np.abs(np.asarray(image).astype(int) - eight(RAMP)).max() <= (case[0] == "m")


def test_the_largest_sample_of_one_picture_is_no_depth():
    """Writers put it where TIFF wants the largest possible one; a dark picture stays dark."""
    dark = tiff(RAMP // 4, extra=[(341, 3, 1022)])
    image = decode(dark, DecodeSettings(channels=1, bit_depth=12))
    assert np.array_equal(np.asarray(image), eight(RAMP // 4))


def test_sixteen_bits_in_planes_are_refused():
    """Pillow reads them as twice eight bits: another picture, without a word."""
    with pytest.raises(UnreadableImageError, match="planes"):
        decode(tiff(COLOURS, planes=2))


def folder_of(root, contents, suffix="tif"):
    for index, content in enumerate(contents):
        for name in ("a", "b"):
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / f"{index}.{suffix}").write_bytes(content)
    return open_source(str(root))


@pytest.mark.parametrize(
    ("top", "bits"),
    [(255, 8), (256, 10), (1023, 10), (1024, 12), (4095, 12), (9999, 14), (65535, 16)],
)
def test_a_set_has_the_smallest_depth_that_holds_its_largest_sample(tmp_path, top, bits):
    """The set's, not a picture's: the dark picture says nothing."""
    bright, dark = np.full((4, 4), top, np.uint16), np.full((4, 4), 3, np.uint16)
    table = folder_of(tmp_path, [tiff(dark), tiff(bright), tiff(dark)])
    assert measure_depths(table, workers=0).bits == bits


def test_an_endless_sample_is_the_darkest(tmp_path):
    """Whatever its sign, as nan is; the others keep their scale."""
    samples = RAMP.astype(np.float32)
    samples[0, :3] = -np.inf, np.nan, np.inf
    expected = eight(np.where(np.isfinite(samples), samples, 0))
    found = decode(encoded(Image.fromarray(samples), "TIFF"), DecodeSettings(bit_depth=12))
    assert np.array_equal(np.asarray(found.convert("L")), expected)


def test_floats_from_nought_to_one_and_others(tmp_path):
    """1 stands for floats up to 1; above that they are scaled as whole numbers are."""
    unit, counts = (
        encoded(Image.fromarray((RAMP / d).astype(np.float32)), "TIFF") for d in (4095, 1)
    )
    assert measure_depths(folder_of(tmp_path / "unit", [unit]), workers=0).bits == 1
    assert measure_depths(folder_of(tmp_path / "counts", [counts]), workers=0).bits == 12
    density = encoded(Image.fromarray((RAMP / 1500).astype(np.float32)), "TIFF")
    densities = measure_depths(folder_of(tmp_path / "density", [density, unit]), workers=0)
    assert (densities.bits, densities.unit_floats) == (2, [])
    both = measure_depths(folder_of(tmp_path / "both", [unit, counts]), workers=0)
    assert len(both.unit_floats) == 2
    assert np.array_equal(
        np.asarray(decode(unit, DecodeSettings(channels=1, bit_depth=1))), eight(RAMP)
    )


def test_sbit_is_believed_where_the_samples_allow_it(tmp_path):
    """A writer that keeps to the standard has scaled them to 16 bits; others have not."""
    low, scaled = (with_sbit(deep_png(RAMP[..., None] << s), 12) for s in (0, 4))
    dark = with_sbit(deep_png(RAMP[..., None] // 8), 12)
    for name, content, bits in (("low", low, 12), ("scaled", scaled, 16), ("dark", dark, 12)):
        table = folder_of(tmp_path / name, [content], "png")
        assert measure_depths(table, workers=0).bits == bits


def test_eight_bits_are_known_from_their_first_bytes(tmp_path, monkeypatch):
    """A set of JPEGs and PNGs of eight bits is not read to measure it."""
    picture = Image.new("RGB", (64, 64), "red")
    contents = [encoded(picture, kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF")]
    table = folder_of(tmp_path, contents, "png")
    monkeypatch.setattr(type(table.images), "content", lambda *_: pytest.fail("was read whole"))
    depths = measure_depths(table, workers=0)
    assert (depths.bits, depths.words()) == (None, "")


def test_the_depth_given_is_that_of_the_table(tmp_path):
    """--bit-depth goes with the pictures, and into what opens them again."""
    folder_of(tmp_path, [tiff(RAMP)])
    table = open_source(str(tmp_path), ReadingConfig(bit_depth=14))
    assert np.array_equal(np.asarray(table.images.open(0))[..., 0], eight(RAMP, 2**14 - 1))
    assert table.origin["bit_depth"] == 14
