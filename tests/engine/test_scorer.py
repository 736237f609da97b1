"""A scorer: pictures without labels, and the one pass that predictions come from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from imgcls.data.loading.dataset import Batch
from imgcls.engine.device.batches import ComputeSettings, Normalizer
from imgcls.engine.scoring.scorer import Scorer

CPU = ComputeSettings(torch.device("cpu"))
VALID = torch.tensor([True, True, False])


class Unlabelled(NamedTuple):
    images: torch.Tensor
    keys: tuple[str, ...]
    valid: torch.Tensor


class Brightness(nn.Module):
    def forward(self, images):
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([mean, -mean], dim=1)


def scorer(temperature=1.0):
    normalizer = Normalizer((0.5,) * 3, (0.5,) * 3, CPU)
    return Scorer(Brightness(), normalizer, ("bright", "dark"), CPU, temperature)


def images(value):
    return torch.full((3, 3, 4, 4), value, dtype=torch.uint8)


def test_pictures_without_labels_are_scored_one_batch_behind_the_other():
    """Nothing is loaded before it is asked for, padding has no score, the model is in eval mode."""
    loaded = []

    def batches():
        for value in (0, 255):
            loaded.append(value)
            yield Unlabelled(images(value), tuple(f"{value}{n}" for n in "abc"), VALID)

    used = scorer()
    answers = used.scores(batches())
    batch, first = next(answers)
    assert loaded == [0]
    assert batch.keys == ("0a", "0b", "0c")
    assert first.keys == ("0a", "0b")
    assert first.logits.dtype == np.float32
    assert first.logits.tolist() == [[-1.0, 1.0]] * 2
    assert not used.model.training
    [(_, second)] = answers
    assert second.logits.tolist() == [[1.0, -1.0]] * 2


def test_a_pass_has_the_scorers_temperature():
    """It changes probabilities, and never the scores."""
    batch = Batch(images(255), torch.tensor([0, 1, 0]), ("a", "b", "c"), VALID)
    plain, mended = (scorer(t).run([batch]).predictions for t in (1.0, 2.0))
    assert np.array_equal(plain.logits, mended.logits)
    assert plain.labels.tolist() == [0, 1]
    assert np.allclose(mended.probabilities[0], torch.tensor([0.5, -0.5]).softmax(dim=0))
