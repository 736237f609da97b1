"""Weights between those that a training began with and those that it ended with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from imgcls.engine.training.selection.choice import Validated

# of the way from the beginning to the end; the end itself is the last epoch
SHARES = (0.8, 0.6, 0.4, 0.2)


class Interpolation:
    """The line from the model with its fitted classifier to the trained one.

    WiSE-FT: Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022),
    arXiv:2109.01903. Between the two, a model keeps more of what its first weights knew, which pays
    where there were few pictures to learn from.

    model: the one that is validated and saved. It changes in place; what is saved meanwhile leads
    back to the trained weights. kept: what the fitted classifier ("head"), the best epoch so far
    ("best") and the last one ("last") scored.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._start: dict[str, torch.Tensor] = {}
        self._end: dict[str, torch.Tensor] = {}
        self.kept: dict[str, Validated] = {}

    @property
    def has_start(self) -> bool:
        """False where a run began without keeping its first weights."""
        return bool(self._start)

    def begin(self) -> None:
        """Keep the model's weights as where the line begins."""
        self._start = self._weights()

    def keep(self, validated: Validated, *, is_head: bool, is_best: bool) -> None:
        """Keep what an epoch scored, and what it is among them."""
        names = ["last", *(["head"] if is_head else []), *(["best"] if is_best else [])]
        self.kept.update(dict.fromkeys(names, validated))

    def go_to(self, share: float) -> None:
        """Give the model the weights at a share of the way, 1.0 for the trained ones.

        All floating tensors are interpolated, and so are running means and variances.
        """
        self._end = self._end or self._weights()
        self._put({name: self._start[name].lerp(end, share) for name, end in self._end.items()})

    def go_back(self) -> None:
        """Give the model its trained weights again, to the bit."""
        self._put(self._end)
        self._end = {}

    def state_dict(self) -> dict[str, Any]:
        """Where the line begins and, while the model is on it, where it ends; what is kept."""
        kept = {name: each.state_dict() for name, each in self.kept.items()}
        return {"start": self._start, "end": self._end, "kept": kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the line from a state; the model gets its trained weights."""
        self._start, self._end = dict(state["start"]), dict(state["end"])
        self.kept = {name: Validated.from_state(each) for name, each in state["kept"].items()}
        self.go_back()

    def _weights(self) -> dict[str, torch.Tensor]:
        return {
            name: value.detach().to("cpu", copy=True)
            for name, value in self._model.state_dict().items()
            if value.is_floating_point()
        }

    def _put(self, weights: Mapping[str, torch.Tensor]) -> None:
        own = self._model.state_dict()
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(value)
