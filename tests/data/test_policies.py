"""timm's random policies, with any Pillow."""

from __future__ import annotations

import random

import pytest
from PIL import Image

from imgcls.data.pixels.policies import timm_policy


@pytest.mark.parametrize("policy", ["rand-m10-inc1", "augmix-m10", "original", "3a"])
def test_the_strongest_changes_of_each_policy_can_be_made(policy):
    """Posterizing down to no bits too, which Pillow 13 refuses by itself."""
    changed = timm_policy(
        policy, input_size=(3, 16, 16), interpolation="bicubic", mean=(0.5,) * 3, color_jitter=0.4
    )
    image = Image.effect_noise((16, 16), 60).convert("RGB")
    random.seed(0)
    for _ in range(400):
        assert changed(image).size == (16, 16)


def test_no_bits_are_black():
    """As every Pillow before 13 made them."""
    changed = timm_policy(
        "rand-m10-n2-mstd0-inc1",
        input_size=(3, 8, 8),
        interpolation="bicubic",
        mean=(0.5,) * 3,
        color_jitter=0.4,
    )
    [posterize] = [op for op in changed.transforms[0].ops if op.name == "PosterizeIncreasing"]
    posterize.prob = 1.0
    found = posterize(Image.new("RGB", (8, 8), (200, 100, 50)))
    assert found.getextrema() == ((0, 0),) * 3
