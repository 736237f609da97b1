"""The features that a classifier takes, computed once by the model around it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from imgcls.engine.device.batches import Batch, ComputeSettings, Images, Normalizer
from imgcls.engine.device.runtime import autocast
from imgcls.engine.scoring.inference import BatchT, Scores
from imgcls.engine.scoring.scorer import Scorer
from imgcls.errors import ModelError


class ClassifierOfModel(Protocol):
    """A classifier that is fed with features, and the model around it."""

    classifier: nn.Module

    @property
    def whole(self) -> nn.Module:
        """The model that the classifier belongs to."""

    def eval(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The classifier in evaluation mode, from features [B, D] to logits [B, C]."""


def whole_model(model: nn.Module) -> nn.Module:
    """The model to save, count and describe: the one around a classifier that is trained alone."""
    whole = getattr(model, "whole", model)
    assert isinstance(whole, nn.Module)
    return whole


class FeatureInput(Normalizer):
    """Batches whose `images` are features already: float32 [B, D], to the device as they are."""

    def __init__(self, settings: ComputeSettings) -> None:
        super().__init__((0.0,), (1.0,), settings)

    def images(self, batch: Images) -> torch.Tensor:
        """The batch's features on the device."""
        return self._moved(batch.images)


def extract_features(
    alone: ClassifierOfModel,
    batches: Iterable[Batch],
    normalizer: Normalizer,
    compute: ComputeSettings,
) -> Iterator[tuple[Batch, np.ndarray]]:
    """Each batch with what the classifier takes for its valid pictures: float32 [n, D].

    In evaluation mode and the compute precision. Raises ModelError when the classifier is not the
    model's last step.
    """
    model = alone.whole.eval()
    checked = False
    for batch in batches:
        with torch.inference_mode():
            seen, logits = _seen(alone, model, normalizer.images(batch), compute)
            if not checked:
                _check_last_step(alone, seen, logits, compute)
                checked = True
            features = seen[0].cpu().numpy()[batch.valid.numpy()]
        yield batch, features


def scores_with_features(
    scorer: Scorer,
    batches: Iterable[BatchT],
    classifier: nn.Module,
    *,
    views: int = 1,
    what: str = "--features",
) -> Iterator[tuple[BatchT, Scores, np.ndarray]]:
    """Each batch with its scores, and what the classifier is given of its pictures: float32 [n, D].

    views: how often the scorer's model asks the classifier about a batch, first of the pictures as
    they are, whose features these are. what: the option that messages name. Raises ModelError for
    a model without pooled features.
    """
    seen: deque[torch.Tensor] = deque()
    calls = [0, 0]  # of the model, of its classifier

    def count(_model: nn.Module, _inputs: tuple[Any, ...]) -> None:
        calls[0] += 1

    def keep(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        features = inputs[0].detach()
        if features.flatten(1).shape[1] != features.shape[1]:
            raise ModelError(f"{what}: this model's classifier is given features with places")
        calls[1] += 1
        seen.append(features.flatten(1).float())

    hooks = [
        scorer.model.register_forward_pre_hook(count),
        classifier.register_forward_pre_hook(keep),
    ]
    try:
        for batch, scores in scorer.scores(batches):
            if calls[1] != views * calls[0]:
                raise ModelError(f"{what}: this model does not call its classifier once a picture")
            given, *_others = [seen.popleft() for _ in range(views)]
            yield batch, scores, given.cpu().numpy()[batch.valid.numpy()]
    finally:
        for hook in hooks:
            hook.remove()


def _seen(
    alone: ClassifierOfModel, model: nn.Module, images: torch.Tensor, compute: ComputeSettings
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """What the classifier was given, each time it was called, and the logits."""
    seen: list[torch.Tensor] = []

    def keep(_layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0].detach().flatten(1).float())

    handle = alone.classifier.register_forward_pre_hook(keep)
    try:
        with autocast(compute.device, compute.precision):
            logits: torch.Tensor = model(images)
    finally:
        handle.remove()
    return seen, logits


def _check_last_step(
    alone: ClassifierOfModel,
    seen: list[torch.Tensor],
    logits: torch.Tensor,
    compute: ComputeSettings,
) -> None:
    with autocast(compute.device, compute.precision):
        again = alone.eval()(seen[0]) if len(seen) == 1 else None
    if again is None or again.shape != logits.shape or not torch.allclose(again, logits, atol=1e-3):
        raise ModelError(
            "--tune, --head: what follows this model's backbone is more than one linear layer; use "
            "--tune full, or --tune head --augment light"
        )
