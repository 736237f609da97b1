"""The training loss, and which classes its probabilities take to be common."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

# Cui et al. (2019) try 0.9 to 0.9999; this one keeps classes of hundreds and of dozens apart
EFFECTIVE_NUMBER_BETA = 0.999
# the value that Lin et al. (2017) found best
FOCAL_GAMMA = 2.0
# tau of Menon et al. (2021): 1, as in balanced-softmax, serves balanced accuracy alone; less stays
# closer to the shares of the training pictures, which the log loss of unbalanced pictures rewards
LOGIT_ADJUST_TAU = 0.75
_TAU = {"logit-adjust": LOGIT_ADJUST_TAU, "balanced-softmax": 1.0}


def build_loss(imbalance: str, class_counts: np.ndarray, smoothing: float) -> nn.Module:
    """The loss over logits float32 [B, C], for class indices [B] or probabilities [B, C].

    imbalance: a method of `--imbalance`. class_counts: training pictures of each class, int [C].
    Label smoothing: Szegedy et al. 2016, arXiv:1512.00567; targets that are probabilities already
    hold it.
    """
    weights = class_weights(imbalance, class_counts)
    gamma = FOCAL_GAMMA if imbalance == "focal" else 0.0
    if imbalance in _TAU:
        return ClassAwareLoss(smoothing, shift=prior_shift(imbalance, class_counts))
    if weights is None and not gamma:
        return nn.CrossEntropyLoss(label_smoothing=smoothing)
    return ClassAwareLoss(smoothing, weights=weights, gamma=gamma)


def class_weights(imbalance: str, class_counts: np.ndarray) -> np.ndarray | None:
    """The weight of each class's pictures in the loss, float64 [C]; None where all weigh the same.

    weighted-loss: the inverse of the class's share, N / (C n), as scikit-learn's "balanced" has it
    (King & Zeng, Logistic Regression in Rare Events Data, 2001); a mean of 1 over the pictures.
    effective-number: the inverse of the effective number of samples (1 - b^n) / (1 - b), scaled to
    a mean of 1 over the classes (Cui et al. 2019, arXiv:1901.05555).
    """
    counts = np.maximum(class_counts, 1)
    if imbalance == "weighted-loss":
        return np.asarray(counts.sum() / (len(counts) * counts))
    if imbalance == "effective-number":
        weights = (1 - EFFECTIVE_NUMBER_BETA) / (1 - EFFECTIVE_NUMBER_BETA**counts)
        return np.asarray(weights * len(weights) / weights.sum())
    return None


def prior_shift(imbalance: str, class_counts: np.ndarray) -> np.ndarray:
    """What the loss adds to each class's logit, float64 [C]: tau times the log of its share.

    logit-adjust: Menon et al. 2021, arXiv:2007.07314. balanced-softmax: the same with tau = 1, as
    Ren et al. 2020, arXiv:2007.10740, arrive at. Zeros for the other methods.
    """
    return np.asarray(_TAU.get(imbalance, 0.0) * np.log(_shares(class_counts)))


def stated_prior(imbalance: str, class_counts: np.ndarray) -> np.ndarray:
    """How common training by that method makes the model take each class to be: float64 [C], sum 1.

    A model that learned its loss to the end gives probabilities for pictures in which the classes
    are as common as this. none and focal leave them as common as in the training pictures.
    """
    shares = _shares(class_counts)
    weights = class_weights(imbalance, class_counts)
    if imbalance in _TAU:
        seen = shares * np.exp(-prior_shift(imbalance, class_counts))
    elif imbalance == "balanced-sampler":
        seen = np.sqrt(shares)
    else:
        seen = shares if weights is None else shares * weights
    return np.asarray(seen / seen.sum())


class ClassAwareLoss(nn.Module):
    """Cross-entropy that knows how common each class is; the mean over the pictures.

    shift: added to the logits while training, so that the logits themselves come to stand for
    classes that are more evenly spread (prior_shift).
    weights: of each class's pictures. gamma: of the focal loss -(1 - p)^gamma log p (Lin et al.
    2017, arXiv:1708.02002, without its alpha, which is for two classes).
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


def _shares(class_counts: np.ndarray) -> np.ndarray:
    counts = np.maximum(class_counts, 1)
    return np.asarray(counts / counts.sum())


def _tensor(values: np.ndarray | None) -> torch.Tensor | None:
    return None if values is None else torch.tensor(values, dtype=torch.float32)
