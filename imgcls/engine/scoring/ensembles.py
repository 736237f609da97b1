"""Several models and several views of each picture, answered as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from imgcls.engine.device.batches import ComputeSettings, Images, Normalizer

View = Callable[[torch.Tensor], torch.Tensor]


def _turned(quarters: int, *, mirrored: bool) -> View:
    # not a function in this one: other processes are sent it
    return partial(_view, quarters, mirrored)


def _view(quarters: int, mirrored: bool, images: torch.Tensor) -> torch.Tensor:
    images = images.flip(-1) if mirrored else images
    return torch.rot90(images, quarters, (-2, -1))


_SAME, _MIRRORED = _turned(0, mirrored=False), _turned(0, mirrored=True)
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (_SAME,),
    "hflip": (_SAME, _MIRRORED),
    "flips": (_SAME, _MIRRORED, _turned(2, mirrored=True), _turned(2, mirrored=False)),
    "d4": tuple(_turned(q, mirrored=m) for m in (False, True) for q in range(4)),
}


class RowInput(Normalizer):
    """Batches whose `images` have several models' pictures in a row, to the device as they are."""

    def __init__(self, settings: ComputeSettings) -> None:
        super().__init__((0.0,), (1.0,), settings)

    def images(self, batch: Images) -> torch.Tensor:
        """The batch's rows on the device: uint8 [B, values]."""
        return self._moved(batch.images)


class PartOfRow:
    """One model's pictures out of such rows: float32 [B, C, H, W], normalised."""

    def __init__(self, start: int, size: tuple[int, int, int], normalizer: Normalizer) -> None:
        self._start = start
        self._size = size
        self._normalizer = normalizer

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """The pictures of rows, uint8 [B, values]."""
        part = rows[:, self._start : self._start + math.prod(self._size)]
        return self._normalizer.normalized(part.reshape(-1, *self._size))


class Ensemble(nn.Module):
    """The mean probabilities of all models over all views, and each model's own plain answer.

    views: the first one is the picture as it is. temperatures: one a model. inputs: what each model
    is given of `images`, where their pictures are not prepared alike. `forward` takes [B, 3, H, W],
    or what `inputs` take, and gives float32 [B, 1 + models, C] of log probabilities, the mean's
    first.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        views: Sequence[View],
        temperatures: Sequence[float],
        inputs: Sequence[View] | None = None,
    ) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self._views = tuple(views)
        self._temperatures = tuple(temperatures)
        self._inputs = tuple(inputs or [_SAME] * len(models))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Score the pictures; see the class."""
        members = zip(self.models, self._temperatures, self._inputs, strict=True)
        answers = torch.stack([self._answers(images, *member) for member in members])
        both = answers.flatten(0, 1)
        mean = both.logsumexp(dim=0) - math.log(len(both))
        return torch.cat([mean[None], answers[:, 0]]).transpose(0, 1)

    def _answers(
        self, images: torch.Tensor, model: nn.Module, temperature: float, own: View
    ) -> torch.Tensor:
        """One model's log probabilities of each view: float32 [views, B, C]."""
        given = own(images)
        answers = [(model(view(given)).float() / temperature) for view in self._views]
        return torch.stack([answer.log_softmax(dim=-1) for answer in answers])
