"""The corruptions against their definitions, on real pictures."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from imgcls.engine.scoring.corruptions import CORRUPTIONS, SEVERITIES, corrupt


@pytest.fixture
def pictures(crops):
    stacked = np.concatenate([crops["china"][:3], crops["flower"][:3]])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous()


KEYS = tuple("abcdef")


@pytest.mark.parametrize("kind", list(CORRUPTIONS))
def test_each_severity_is_worse_than_the_one_before(pictures, kind):
    """Same shape and type, and further from the picture each time."""
    distances = []
    for severity in SEVERITIES:
        worse = corrupt(pictures, kind, severity, KEYS)
        assert (worse.dtype, worse.shape) == (torch.uint8, pictures.shape)
        distances.append((worse.float() - pictures.float()).abs().mean().item())
    assert distances == sorted(distances)
    assert distances[0] > 0.1


@pytest.mark.parametrize("kind", list(CORRUPTIONS))
def test_a_grey_picture_is_taken_too(pictures, kind):
    """One channel."""
    assert corrupt(pictures[:, :1], kind, 3, KEYS).shape == (6, 1, 48, 48)


def test_noise_follows_from_the_key(pictures):
    """Not from the batch; it has ImageNet-C's spread."""
    whole = corrupt(pictures, "gaussian_noise", 2, KEYS)
    part = corrupt(pictures[4:], "gaussian_noise", 2, KEYS[4:])
    assert torch.equal(whole[4:], part)
    for side, std in ((100, 0.06), (200, 0.12)):
        grey = torch.full((2, 3, side, side), 128, dtype=torch.uint8)
        noisy = corrupt(grey, "gaussian_noise", 2, ("x", "y")).float() / 255
        assert noisy.std().item() == pytest.approx(std, rel=0.03)
        assert not torch.equal(noisy[0], noisy[1])


def test_blur_equals_scipy(pictures):
    """Sigma 1 for small pictures at severity 5, 2 for large ones at severity 2."""
    large = pictures.repeat(1, 1, 4, 4)
    for images, severity, sigma in ((pictures, 5, 1), (large, 2, 2)):
        ours = corrupt(images, "gaussian_blur", severity, KEYS).numpy().astype(float)
        theirs = gaussian_filter(
            images.numpy().astype(float), (0, 0, sigma, sigma), mode="mirror", truncate=4
        )
        assert np.abs(ours - theirs).max() <= 1


def test_brightness_adds_to_the_value_of_hsv(pictures):
    """By Python's own colorsys, pixel by pixel."""
    ours = corrupt(pictures, "brightness", 3, KEYS)[0, :, ::12, ::12]
    for pixel, expected in zip(
        ours.flatten(1).T.tolist(), pictures[0, :, ::12, ::12].flatten(1).T.tolist(), strict=True
    ):
        hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in expected))
        brighter = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.15, 1))
        assert pixel == pytest.approx([channel * 255 for channel in brighter], abs=1)


def test_jpeg_equals_pillow(pictures):
    """Quality 50 at severity 4."""
    ours = corrupt(pictures, "jpeg", 4, KEYS)[0].permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pictures[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=50)
    assert np.array_equal(ours, np.asarray(Image.open(file)))
