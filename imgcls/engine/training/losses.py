"""The training loss, which may know how common each class is."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn


def build_loss(
    smoothing: float,
    *,
    shift: np.ndarray | None = None,
    weights: np.ndarray | None = None,
    gamma: float = 0.0,
) -> nn.Module:
    """The loss over logits float32 [B, C], for class indices [B] or probabilities [B, C].

    shift, weights [C], gamma: see ClassAwareLoss. Label smoothing: Szegedy et al. 2016,
    arXiv:1512.00567; targets that are probabilities already hold it.
    """
    if shift is None and weights is None and not gamma:
        return nn.CrossEntropyLoss(label_smoothing=smoothing)
    return ClassAwareLoss(smoothing, shift=shift, weights=weights, gamma=gamma)


class ClassAwareLoss(nn.Module):
    """Cross-entropy that knows how common each class is; the mean over the pictures.

    shift: added to the logits while training, so that the logits themselves come to stand for
    classes that are more evenly spread. weights: of each class's pictures. gamma: of the focal loss
    -(1 - p)^gamma log p (Lin et al. 2017, arXiv:1708.02002).
    """

    shift: torch.Tensor | None
    weights: torch.Tensor | None

    def __init__(
        self,
        smoothing: float,
        *,
        shift: np.ndarray | None = None,
        weights: np.ndarray | None = None,
        gamma: float = 0.0,
    ) -> None:
        super().__init__()
        self._smoothing = smoothing
        self._gamma = gamma
        self.register_buffer("shift", _tensor(shift), persistent=False)
        self.register_buffer("weights", _tensor(weights), persistent=False)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of logits [B, C] for class indices [B] or probabilities [B, C]."""
        if targets.ndim == 1:
            hot = nn.functional.one_hot(targets, logits.shape[1]).to(logits.dtype)
            targets = hot * (1 - self._smoothing) + self._smoothing / logits.shape[1]
        if self.shift is not None:
            logits = logits + self.shift
        log_p = nn.functional.log_softmax(logits, dim=1)
        losses = -targets * log_p
        if self.weights is not None:
            losses = losses * self.weights
        if self._gamma:
            # -expm1 keeps 1 - p exact where p is near 1
            losses = losses * (-torch.expm1(log_p)).clamp_min(0.0).pow(self._gamma)
        return losses.sum(dim=1).mean()


def _tensor(values: np.ndarray | None) -> torch.Tensor | None:
    return None if values is None else torch.tensor(values, dtype=torch.float32)
