"""Which of the weights at hand are kept when the last epoch is behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from imgcls.metrics.registry import lower_is_better


@dataclass(frozen=True, eq=False)
class Validated:
    """What weights score on the validation pictures: the `val_` metrics, and float64 [N] losses.

    losses: of each picture, in the pictures' order, at the temperature where there is one. units:
    int64 [N], the numbers of the groups they belong to; None where each is its own.
    """

    metrics: Mapping[str, float | None]
    losses: np.ndarray
    units: np.ndarray | None = None

    def state_dict(self) -> dict[str, Any]:
        """As JSON types and tensors."""
        units = None if self.units is None else torch.from_numpy(self.units)
        losses = torch.from_numpy(self.losses)
        return {"metrics": dict(self.metrics), "losses": losses, "units": units}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Validated:
        """What `state_dict` gave."""
        units = state["units"]
        losses = state["losses"].numpy()
        return cls(state["metrics"], losses, None if units is None else units.numpy())


def first_as_good(candidates: Sequence[Validated], monitor: str) -> int:
    """The first candidate that is not worse than the best by more than one standard error.

    In the monitored metric first, by the standard error of the highest (`<monitor>_se`; without one
    the highest alone is left), then in the mean loss, by that of the paired difference: so few
    pictures tell more of two models by where their losses differ than by each one's mean. Where
    losses are not of the same pictures they are not compared, and the earlier candidate stands.

    The one-standard-error rule (Breiman et al., Classification and Regression Trees, 1984), which
    takes the simplest of them, here the first.
    """
    sign = -1 if lower_is_better(monitor) else 1
    rising = [_rising(each.metrics.get(monitor), sign) for each in candidates]
    top = int(np.argmax(rising))
    bar = rising[top] - (candidates[top].metrics.get(f"{monitor}_se") or 0.0)
    left = [number for number, value in enumerate(rising) if value >= bar]
    lowest = min(left, key=lambda number: float(candidates[number].losses.mean()))
    best, units = candidates[lowest].losses, candidates[lowest].units
    for number in left:
        losses = candidates[number].losses
        if losses.shape != best.shape:
            return number
        if losses.mean() - best.mean() <= _standard_error(losses - best, units):
            return number
    return lowest


def _rising(value: float | None, sign: int) -> float:
    return sign * value if value is not None and math.isfinite(value) else -math.inf


def _standard_error(differences: np.ndarray, units: np.ndarray | None) -> float:
    """Of the mean difference; pictures of one unit count as one observation."""
    centred = differences - differences.mean()
    sums = centred if units is None else np.bincount(units, weights=centred)
    if len(sums) < 2:  # noqa: PLR2004  one alone tells no spread
        return math.inf
    return float(np.sqrt((sums**2).sum() * len(sums) / (len(sums) - 1)) / len(centred))
