"""A model's classifier by itself, fed with the features of the backbone in front of it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from imgcls.errors import ModelError
from imgcls.models.build import classifier_names


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


def classifier_alone(model: nn.Module, dropout: float = 0.0) -> ClassifierAlone:
    """The model's classifier, to be fed with features. Raises ModelError for one with several."""
    names = classifier_names(model)
    if len(names) > 1:
        raise ModelError(
            f"--tune, --head: this model has {len(names)} classifiers; use --tune full, or "
            "--tune head+full --head linear"
        )
    return ClassifierAlone(model, names[0], dropout)


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
