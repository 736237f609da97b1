"""The methods of `--imbalance`: what each does in training, and what its probabilities then mean.

A method is one record of IMBALANCE_METHODS, which the option, the loss, the fitted classifier, the
sampler and the screen of an evaluation read. No numpy is loaded before a method is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

# Cui et al. (2019) try 0.9 to 0.9999; this one keeps classes of hundreds and of dozens apart
_EFFECTIVE_NUMBER_BETA = 0.999


@dataclass(frozen=True, kw_only=True)
class ImbalanceMethod:
    """What is done for rare classes; what is left out is not done.

    weigh: gives each class's weight in the loss, float64 [C], for its training pictures, int [C]
    and at least 1. tau: so many times the log of each class's share is added to
    its logit while training, so that the logits themselves stand for more evenly spread classes.
    focal_gamma: of the focal loss -(1 - p)^gamma log p, in place of -log p. balances_sampler:
    pictures of rare classes come more often (`square_root_draw`).

    probabilities_for: the classes for which the model's probabilities are then meant, in words;
    empty where they are as common as in the training pictures.
    """

    name: str
    weigh: Callable[[np.ndarray], np.ndarray] | None = None
    tau: float = 0.0
    focal_gamma: float = 0.0
    balances_sampler: bool = False
    probabilities_for: str = ""

    def class_weights(self, class_counts: np.ndarray) -> np.ndarray | None:
        """The weight of each class's pictures in the loss, float64 [C]; None for all alike."""
        return None if self.weigh is None else self.weigh(class_counts.clip(1))

    def prior_shift(self, class_counts: np.ndarray) -> np.ndarray | None:
        """What training adds to each class's logit, float64 [C]; None for nothing."""
        import numpy as np

        return self.tau * np.log(_shares(class_counts)) if self.tau else None

    def stated_prior(self, class_counts: np.ndarray) -> np.ndarray:
        """How common training makes the model take each class to be: float64 [C], sum 1.

        A model that learned its loss to the end gives probabilities for pictures in which the
        classes are as common as this. The focal loss leaves them as in the training pictures.
        """
        import numpy as np

        seen = _shares(class_counts)
        weights, shift = self.class_weights(class_counts), self.prior_shift(class_counts)
        if self.balances_sampler:
            seen = np.sqrt(seen)
        if weights is not None:
            seen = seen * weights
        if shift is not None:
            seen = seen * np.exp(-shift)
        return np.asarray(seen / seen.sum())


def _shares(class_counts: np.ndarray) -> np.ndarray:
    counts = class_counts.clip(1)
    shares: np.ndarray = counts / counts.sum()
    return shares


def _inverse_shares(counts: np.ndarray) -> np.ndarray:
    """N / (C n), as scikit-learn's "balanced" has it; a mean of 1 over the pictures."""
    weights: np.ndarray = counts.sum() / (len(counts) * counts)
    return weights


def _effective_numbers(counts: np.ndarray) -> np.ndarray:
    """The inverse of (1 - b^n) / (1 - b), scaled to a mean of 1 over the classes."""
    raw = (1 - _EFFECTIVE_NUMBER_BETA) / (1 - _EFFECTIVE_NUMBER_BETA**counts)
    weights: np.ndarray = raw * len(raw) / raw.sum()
    return weights


_METHODS = (
    ImbalanceMethod(name="none"),
    # Mahajan et al. 2018, arXiv:1805.00932; Gupta et al. 2019, arXiv:1908.03195
    ImbalanceMethod(
        name="balanced-sampler",
        balances_sampler=True,
        probabilities_for="classes as common as the square roots of their pictures",
    ),
    # King & Zeng, Logistic Regression in Rare Events Data, 2001
    ImbalanceMethod(
        name="weighted-loss",
        weigh=_inverse_shares,
        probabilities_for="classes that are equally common",
    ),
    # Cui et al. 2019, arXiv:1901.05555
    ImbalanceMethod(
        name="effective-number",
        weigh=_effective_numbers,
        probabilities_for="rare classes that are nearly as common as the others",
    ),
    # Lin et al. 2017, arXiv:1708.02002, with the value that they found best, and without their
    # alpha, which is for two classes
    ImbalanceMethod(name="focal", focal_gamma=2.0),
    # Menon et al. 2021, arXiv:2007.07314. Their tau of 1 serves balanced accuracy alone; less stays
    # closer to the shares of the training pictures, which the log loss of unbalanced ones rewards
    ImbalanceMethod(
        name="logit-adjust",
        tau=0.75,
        probabilities_for="classes that are nearly equally common",
    ),
    # the same with a tau of 1, as Ren et al. 2020, arXiv:2007.10740, arrive at
    ImbalanceMethod(
        name="balanced-softmax",
        tau=1.0,
        probabilities_for="classes that are equally common",
    ),
)
IMBALANCE_METHODS = {method.name: method for method in _METHODS}
