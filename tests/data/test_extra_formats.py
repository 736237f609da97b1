"""HEIC, JPEG XL, AVIF and DICOM: what an extra reads, and what is said without it."""

from __future__ import annotations

import io
import sys

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401  registers its writer
import pydicom
import pytest
from odd_pictures import PHOTO
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from imgcls.data.audit.picture import check, examine
from imgcls.data.open import open_source
from imgcls.data.pixels import formats
from imgcls.data.pixels.decode import DecodeSettings, UnreadableImageError, decode

pillow_heif.register_heif_opener()


def written(kind, image=PHOTO, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def dicom(values, **elements):
    """uint16 or uint8 [H, W] or [H, W, 3] as an uncompressed DICOM file; 12 bits by default."""
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = values.shape[:2]
    dataset.SamplesPerPixel = 1 if values.ndim == 2 else 3
    if values.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "MONOCHROME2" if values.ndim == 2 else "RGB"
    dataset.BitsAllocated = values.dtype.itemsize * 8
    dataset.BitsStored = 8 if values.dtype.itemsize == 1 else 12
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes()
    dataset.Modality = "CT"
    for name, value in elements.items():
        setattr(dataset, name, value)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def grey(content):
    """The decoded picture as one channel, [H, W]."""
    return np.asarray(decode(content, DecodeSettings(channels=1)))


RAMP = np.arange(0, 4096, 16, dtype=np.uint16).reshape(16, 16)


@pytest.mark.parametrize("kind", ["HEIF", "JXL", "AVIF"])
def test_a_photograph_by_an_extra_is_the_photograph(kind):
    """Within the loss of its compression; the audit names its format."""
    content = written(kind, quality=95)
    distance = np.abs(np.asarray(decode(content), float) - np.asarray(PHOTO, float)).mean()
    assert distance < 8
    assert examine(content, DecodeSettings()).format == kind
    assert check(content, DecodeSettings()).reason == ""
    assert check(content[: len(content) // 2], DecodeSettings()).reason


def test_a_phone_held_upright_gives_an_upright_picture():
    """HEIC says how it was held; the picture is turned once, not twice."""
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = written(
        "HEIF", PHOTO.transpose(Image.Transpose.ROTATE_90), quality=95, exif=exif.tobytes()
    )
    image = decode(turned)
    assert image.size == PHOTO.size
    assert np.abs(np.asarray(image, float) - np.asarray(PHOTO, float)).mean() < 8


def test_the_window_decides_what_is_black_and_white():
    """DICOM PS3.3 C.11.2.1.2: below centre - width / 2 black, above white, straight between."""
    windowed = grey(dicom(RAMP, WindowCenter=1000, WindowWidth=400)).ravel().astype(float)
    values = RAMP.ravel().astype(float)
    expected = np.clip((values - 999.5) / 399 + 0.5, 0, 1) * 255
    assert np.abs(windowed - expected).max() <= 0.51
    first = grey(dicom(RAMP, WindowCenter=[1000, 50], WindowWidth=[400, 10]))
    assert np.array_equal(first.ravel(), windowed)


def test_values_are_rescaled_before_the_window():
    """Stored 0..4095 become Hounsfield units, in which the window is given."""
    rescaled = dicom(
        RAMP, RescaleSlope=2, RescaleIntercept=-1024, WindowCenter=1000 * 2 - 1024, WindowWidth=800
    )
    plain = grey(dicom(RAMP, WindowCenter=1000, WindowWidth=400)).astype(int)
    assert np.abs(grey(rescaled).astype(int) - plain).max() <= 1


def test_monochrome1_is_turned_round():
    """Its smallest value is white, as a radiograph's film."""
    window = {"WindowCenter": 2048, "WindowWidth": 4096}
    plain = grey(dicom(RAMP, **window)).astype(int)
    inverted = grey(dicom(RAMP, PhotometricInterpretation="MONOCHROME1", **window)).astype(int)
    assert np.array_equal(inverted, 255 - plain)


def test_without_a_window_the_picture_has_its_own_range():
    """Twelve bits in sixteen are not sixteen grey levels; padding is not a value."""
    assert np.array_equal(
        grey(dicom(RAMP // 4)).ravel(), np.rint(np.arange(256) * 1020 / 1020).astype(np.uint8)
    )
    padded = RAMP.copy()
    padded[0] = 4000
    image = grey(dicom(np.minimum(padded, 4000), PixelPaddingValue=4000))
    assert image[1, 0] == 0


def test_a_voi_table_is_looked_up():
    """A curve that the file brings along."""
    item = pydicom.Dataset()
    item.LUTDescriptor = [4096, 0, 8]
    item.add_new(0x00283006, "US", (255 - np.arange(4096) // 16).tolist())
    window = {"WindowCenter": 1, "WindowWidth": 2}  # the table goes before it
    image = grey(dicom(RAMP, VOILUTSequence=[item], **window))
    assert np.array_equal(image.ravel(), 255 - np.arange(256))
    item.LUTDescriptor = [2048, 1024, 8]  # outside of its entries, their first and last
    image = grey(dicom(RAMP, ModalityLUTSequence=[item], WindowCenter=128, WindowWidth=256))
    assert (image[0, 0], image[-1, -1]) == (255, 255 - 2047 // 16)


def test_colours_stay_colours():
    """Ultrasound and dermatology: RGB of eight bits."""
    pixels = np.asarray(PHOTO)
    assert np.array_equal(np.asarray(decode(dicom(pixels))), pixels)


def test_compressed_dicom_is_the_same(tmp_path):
    """Run lengths, which pydicom reads by itself."""
    dataset = pydicom.dcmread(io.BytesIO(dicom(RAMP)))
    dataset.compress(RLELossless, generate_instance_uid=False)
    stream = io.BytesIO()
    dataset.save_as(stream)
    assert np.array_equal(grey(stream.getvalue()), grey(dicom(RAMP)))


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"NumberOfFrames": 3}, "DICOM of 3 frames, and a picture is one"),
        ({"PixelData": b"\0\0"}, ""),
        ({"WindowCenter": 5, "WindowWidth": 0}, "window width"),
        ({"Rows": 60000, "Columns": 60000}, "decompression bomb"),
    ],
)
def test_dicom_that_is_no_picture_says_why(elements, words):
    """More frames than one, too few bytes, no window, far too large."""
    with pytest.raises(UnreadableImageError) as caught:
        decode(dicom(RAMP, **elements))
    assert words in str(caught.value).lower() or words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dicom_without_pixels_is_named():
    """A report or a plan in the same folder."""
    dataset = pydicom.dcmread(io.BytesIO(dicom(RAMP)))
    del dataset.PixelData
    dataset.Modality = "SR"
    stream = io.BytesIO()
    dataset.save_as(stream)
    with pytest.raises(UnreadableImageError, match=r"DICOM without pixels \(SR\)"):
        decode(stream.getvalue())


def test_a_missing_plugin_of_pydicom_is_named(monkeypatch):
    """Some transfer syntaxes want more than pydicom alone."""
    dataset = pydicom.dcmread(io.BytesIO(dicom(RAMP)))
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
    stream = io.BytesIO()
    dataset.save_as(stream)
    with pytest.raises(UnreadableImageError):
        decode(stream.getvalue())


@pytest.mark.parametrize(
    ("kind", "module", "extra", "spoken"),
    [
        ("HEIF", "pillow_heif", "heif", "HEIC"),
        ("JXL", "pillow_jxl", "jxl", "JPEG XL"),
        ("DICOM", "pydicom", "dicom", "DICOM"),
    ],
)
def test_without_its_extra_the_error_names_it(kind, module, extra, spoken, monkeypatch):
    """Whatever the file is called."""
    content = dicom(RAMP) if kind == "DICOM" else written(kind)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "imgcls.data.pixels.dicom", raising=False)
    formats._extra.cache_clear()
    try:
        with pytest.raises(UnreadableImageError, match=rf'{spoken}, .*"imgcls\[{extra}\]"'):
            decode(content)
    finally:
        formats._extra.cache_clear()


def test_a_pillow_built_without_avif_is_told_apart_from_damage(monkeypatch):
    """As some distributions build it."""
    content = written("AVIF")
    monkeypatch.delitem(Image.OPEN, "AVIF")
    formats._formats.cache_clear()
    try:
        with pytest.raises(UnreadableImageError, match="AVIF, which this Pillow was built without"):
            decode(content)
    finally:
        formats._formats.cache_clear()


def test_a_folder_of_them_is_a_data_set(tmp_path):
    """By their suffixes, in any case."""
    for name, content in (("a/1.HEIC", written("HEIF")), ("b/1.dcm", dicom(RAMP)),
                          ("b/2.jxl", written("JXL"))):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    table = open_source(str(tmp_path))
    assert table.keys == ("a/1.HEIC", "b/1.dcm", "b/2.jxl")
    assert all(table.images.open(row).mode == "RGB" for row in range(3))
