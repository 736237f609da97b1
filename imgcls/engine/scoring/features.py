"""The features that a classifier takes, computed once, and the classifier alone on top of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from imgcls.engine.device.batches import Batch, ComputeSettings, Normalizer
from imgcls.engine.device.runtime import autocast
from imgcls.errors import ModelError


class ClassifierAlone(nn.Module):
    """A model's classifier, fed with features; what is trained of it is trained of the model.

    Only the classifier's parameters are its own. `whole` is the model around it.
    """

    def __init__(self, whole: nn.Module, name: str, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.classifier = whole.get_submodule(name)
        # in a tuple it is no submodule: neither stepped, averaged nor put into training mode
        self._whole = (whole,)

    @property
    def whole(self) -> nn.Module:
        """The model that the classifier belongs to; in a copy, the copied model."""
        return self._whole[0]

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits [B, C] of features [B, D]."""
        logits: torch.Tensor = self.classifier(_as_input(self.dropout(features), self.classifier))
        return logits.flatten(1)


def whole_model(model: nn.Module) -> nn.Module:
    """The model to save, count and describe: the one around a classifier that is trained alone."""
    return model.whole if isinstance(model, ClassifierAlone) else model


class FeatureInput(Normalizer):
    """Batches whose `images` are features already: float32 [B, D], to the device as they are."""

    def __init__(self, settings: ComputeSettings) -> None:
        super().__init__((0.0,), (1.0,), settings)

    def images(self, batch: Batch) -> torch.Tensor:
        """The batch's features on the device."""
        return self._moved(batch.images)


def extract_features(
    alone: ClassifierAlone,
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


def _seen(
    alone: ClassifierAlone, model: nn.Module, images: torch.Tensor, compute: ComputeSettings
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


def set_classifier(classifier: nn.Module, weight: np.ndarray, bias: np.ndarray) -> None:
    """Give a linear layer (or a convolution of one pixel) weights [C, D] and biases [C].

    Raises ModelError when they do not fit.
    """
    own, own_bias = getattr(classifier, "weight", None), getattr(classifier, "bias", None)
    if own is None or own_bias is None or own.numel() != weight.size:
        raise ModelError("--head logistic: the model's classifier is no linear layer; use linear")
    with torch.no_grad():
        own.copy_(torch.from_numpy(weight).reshape(own.shape))
        own_bias.copy_(torch.from_numpy(bias))


def _as_input(features: torch.Tensor, classifier: nn.Module) -> torch.Tensor:
    return features[..., None, None] if isinstance(classifier, nn.Conv2d) else features


def _check_last_step(
    alone: ClassifierAlone,
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
