"""The pictures that an exported model is compared on."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from imgcls.config.reading import ReadingConfig
from imgcls.data.open import open_source
from imgcls.data.pixels.decode import DecodeSettings, decode
from imgcls.data.pixels.transforms import eval_transform
from imgcls.jobs.export.pictures import ProofPictures
from imgcls.models.card import Preprocessing


@pytest.mark.parametrize("channels", [3, 1])
def test_a_large_jpeg_is_resized_alike_for_both_sides(channels, tmp_path):
    """The short way that the checkpoint takes of it is a level off, which no file answers for."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        noise = rng.integers(0, 256, (500, 700, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / name / "0.jpg")
    own = Preprocessing(
        (channels, 64, 64), (0.5,) * channels, (0.5,) * channels, "bilinear", 0.875, "center"
    )
    table = open_source(str(tmp_path), ReadingConfig(), DecodeSettings(channels=channels))
    subject = SimpleNamespace(preprocessing=own, profile="picture")
    [seen] = ProofPictures(subject, table, (0,), "val").read()
    transform = eval_transform(own)
    decoded = decode(tmp_path / "a/0.jpg", DecodeSettings(channels=channels))
    assert (seen.pixels == transform(decoded)).all()
    assert (seen.whole == np.asarray(decode(tmp_path / "a/0.jpg"))).all()
    if channels == 3:  # or this would test nothing
        short = transform.finish(table.images.open_crop(0, transform.choose))
        assert (seen.pixels != short).any()
