"""Models whose pictures are prepared in different ways, fed from one pass over the pictures."""

from __future__ import annotations

import io
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from imgcls.data.pixels.decode import DecodeSettings, decode_crop
from imgcls.data.pixels.transforms import EvalTransform, SideBySide
from imgcls.engine.device.batches import ComputeSettings, Normalizer
from imgcls.engine.scoring.ensembles import VIEWS, Ensemble, PartOfRow
from imgcls.models.card import Preprocessing

PREPARED = (
    Preprocessing((3, 24, 24), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bicubic", 0.9, "center"),
    Preprocessing((3, 40, 40), (0.4, 0.5, 0.6), (0.2, 0.3, 0.2), "bilinear", 1.0, "squash"),
)


class Mean(torch.nn.Module):
    """Scores of two classes out of what a picture's halves hold."""

    def forward(self, images):
        left, right = images.chunk(2, dim=-1)
        return torch.stack([left.mean(dim=(1, 2, 3)), right.mean(dim=(1, 2, 3))], dim=1)


def jpegs():
    rng = np.random.default_rng(0)
    for width, height in ((300, 200), (70, 90)):
        pixels = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).resize((width, height)).save(file, "jpeg")
        yield file.getvalue()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("tta", ["none", "d4"])
def test_each_model_is_given_what_it_is_given_alone(channels_last, tta):
    """JPEGs of which each takes another size from the decoder: the same pixels, bit for bit."""
    compute = ComputeSettings(torch.device("cpu"), None, channels_last)
    readers = [EvalTransform(one) for one in PREPARED]
    opens = [partial(decode_crop, jpeg, DecodeSettings()) for jpeg in jpegs()]
    rows = torch.stack([SideBySide(readers).read(one) for one in opens])
    normalizers = [Normalizer(one.mean, one.std, compute) for one in PREPARED]
    starts = (0, 3 * 24 * 24)
    parts = [
        PartOfRow(start, one.input_size, normalizer)
        for start, one, normalizer in zip(starts, PREPARED, normalizers, strict=True)
    ]
    alone = []
    for reader, normalizer, part in zip(readers, normalizers, parts, strict=True):
        images = normalizer.normalized(torch.stack([reader.read(one) for one in opens]))
        assert torch.equal(part(rows), images)
        assert part(rows).stride() == images.stride()
        alone.append(Ensemble([Mean()], VIEWS[tta], [0.7])(images))
    both = Ensemble([Mean(), Mean()], VIEWS[tta], [0.7, 0.7], parts)(rows)
    assert torch.equal(both[:, 1:], torch.cat([one[:, 1:] for one in alone], dim=1))
    mean = torch.stack([one[:, 0].exp() for one in alone]).mean(dim=0)
    torch.testing.assert_close(both[:, 0].exp(), mean)
