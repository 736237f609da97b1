"""The training loss."""

from __future__ import annotations

from torch import nn

from imgcls.config.optim import AugmentConfig
from imgcls.engine.batches import uses_mixing


def build_loss(augment: AugmentConfig) -> nn.Module:
    """Cross-entropy over logits float32 [B, C], for class indices [B] or probabilities [B, C].

    Label smoothing (Szegedy et al. 2016, arXiv:1512.00567) is in the loss, or, with mixup and
    cutmix, already in the targets that timm's Mixup makes.
    """
    return nn.CrossEntropyLoss(label_smoothing=0.0 if uses_mixing(augment) else augment.smoothing)
