"""Several models and several views of each picture, answered as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

View = Callable[[torch.Tensor], torch.Tensor]


def _turned(quarters: int, *, mirrored: bool) -> View:
    def view(images: torch.Tensor) -> torch.Tensor:
        images = images.flip(-1) if mirrored else images
        return torch.rot90(images, quarters, (-2, -1))

    return view


_SAME, _MIRRORED = _turned(0, mirrored=False), _turned(0, mirrored=True)
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (_SAME,),
    "hflip": (_SAME, _MIRRORED),
    "flips": (_SAME, _MIRRORED, _turned(2, mirrored=True), _turned(2, mirrored=False)),
    "d4": tuple(_turned(q, mirrored=m) for m in (False, True) for q in range(4)),
}


class Ensemble(nn.Module):
    """The mean probabilities of all models over all views, and each model's own plain answer.

    views: the first one is the picture as it is. temperatures: one a model. `forward` takes
    [B, 3, H, W] and gives float32 [B, 1 + models, C] of log probabilities, the mean's first.
    """

    def __init__(
        self, models: Sequence[nn.Module], views: Sequence[View], temperatures: Sequence[float]
    ) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self._views = tuple(views)
        self._temperatures = tuple(temperatures)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Score the pictures; see the class."""
        answers = torch.stack(
            [
                torch.stack(
                    [
                        (model(view(images)).float() / temperature).log_softmax(dim=-1)
                        for view in self._views
                    ]
                )
                for model, temperature in zip(self.models, self._temperatures, strict=True)
            ]
        )
        both = answers.flatten(0, 1)
        mean = both.logsumexp(dim=0) - math.log(len(both))
        return torch.cat([mean[None], answers[:, 0]]).transpose(0, 1)
