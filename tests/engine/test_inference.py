"""One pass of a model over pictures: the order of its batches, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from imgcls.data.loading.dataset import Batch
from imgcls.engine.device.batches import ComputeSettings, Normalizer
from imgcls.engine.scoring import inference
from imgcls.engine.scoring.features import scores_with_features
from imgcls.engine.scoring.inference import predict
from imgcls.engine.scoring.scorer import Scorer
from imgcls.errors import ModelError, NonFiniteError

CPU = ComputeSettings(torch.device("cpu"))


class _Mean(nn.Module):
    def forward(self, images):
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([mean, -mean], dim=1)


def batches(asked, count=5):
    for number in range(count):
        asked.append(number)
        images = torch.full((2, 3, 4, 4), 10 * number, dtype=torch.uint8)
        keys = (f"{number}a", f"{number}b")
        yield Batch(images, torch.tensor([0, 1]), keys, torch.tensor([True, number != 4]))


def passed(asked, on_batch=lambda _samples: None):
    return predict(_Mean(), batches(asked), Normalizer((0.0,) * 3, (1.0,) * 3, CPU), CPU, on_batch)


def test_a_device_that_has_the_next_batch_already_gives_the_same(monkeypatch):
    """As a GPU does: one is under way while another comes back; order, padding and counts stay."""
    one_by_one = passed([])
    monkeypatch.setattr(inference, "_in_flight", lambda _compute: 2)
    asked, done = [], []
    ahead = passed(asked, lambda samples: done.append((len(asked), samples)))
    assert done == [(2, 2), (3, 2), (4, 2), (5, 2), (5, 1)]
    assert ahead.keys == one_by_one.keys
    assert ahead.keys[-1] == "4a"
    assert np.array_equal(ahead.logits, one_by_one.logits)
    assert np.array_equal(ahead.labels, one_by_one.labels)
    assert len(ahead.batch_times_s) == 5


def test_scores_that_are_not_finite_name_their_picture(monkeypatch):
    """It is an error while running, exit 1; padding does not count."""
    monkeypatch.setattr(_Mean, "forward", lambda _self, images: images[:, :2, 0, 0].log())
    with pytest.raises(NonFiniteError, match="0a: the model's output for it is inf or nan"):
        passed([])


@pytest.mark.parametrize(
    ("calls", "places", "words"),
    [(2, False, "does not call its classifier once"), (1, True, "features with places")],
)
def test_features_are_those_of_a_classifier_that_is_called_once(calls, places, words):
    """A model that calls it twice, or before it has pooled, is refused by name."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.classifier = nn.Conv2d(3, 2, 1) if places else nn.Linear(3, 2)

        def forward(self, images):
            features = images if places else images.mean((2, 3))
            answers = [self.classifier(features) for _ in range(calls)]
            return answers[0].flatten(2).mean(2) if places else answers[0]

    model = Model()
    scorer = Scorer(model, Normalizer((0.5,) * 3, (0.5,) * 3, CPU), ("a", "b"), CPU)
    with pytest.raises(ModelError, match=words):
        next(scores_with_features(scorer, batches([]), model.classifier, what="--unlike"))
