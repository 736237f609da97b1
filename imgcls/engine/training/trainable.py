"""What is trained in which epoch, and what the norm layers do meanwhile."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@dataclass(frozen=True)
class Stage:
    """Parameters that are trained from epoch `first_epoch` (from 0) on."""

    first_epoch: int
    parameters: tuple[nn.Parameter, ...]


@dataclass(frozen=True)
class Trainable:
    """What is trained in which epoch: by the epoch alone, so a resumed run needs no record.

    Parameters in no stage are as they were made. frozen_norms: batch norm layers keep the means and
    variances they came with.
    """

    stages: tuple[Stage, ...] = ()
    frozen_norms: bool = False

    def begin_epoch(self, model: nn.Module, epoch: int) -> None:
        """Put the model into training mode, with what this epoch trains switched on.

        Norm layers whose parameters are not trained stay in evaluation mode, or their running
        statistics would drift away from the frozen weights around them.
        """
        for stage in self.stages:
            for parameter in stage.parameters:
                parameter.requires_grad_(epoch >= stage.first_epoch)
        model.train()
        parents = {
            id(child): list(module.parameters())
            for module in model.modules()
            for child in module.children()
        }
        for module in model.modules():
            if not isinstance(module, _NormBase):
                continue
            own = list(module.parameters(recurse=False))
            # one without parameters belongs to what is around it
            weights = own or parents.get(id(module), [])
            trained = any(parameter.requires_grad for parameter in weights)
            if self.frozen_norms or (weights and not trained):
                module.eval()


def is_too_few(error: BaseException) -> bool:
    """True for torch's error about a batch norm that is trained on a single value a channel."""
    return isinstance(error, ValueError) and "more than 1 value per channel" in str(error)


def trains_on_one_picture(model: nn.Module, input_size: tuple[int, int, int]) -> bool:
    """False when the model, in the training mode it is in, has a batch norm that needs more.

    Tried by a pass of one picture [C, H, W] that computes nothing; True for a model that needs the
    pixels' values on its way, which then tells by itself.
    """
    shadow = copy.deepcopy(model).to("meta")
    try:
        shadow(torch.empty(1, *input_size, device="meta"))
    except Exception as error:  # noqa: BLE001  what such a model raises is not foretold
        return not is_too_few(error)
    return True


def gradual_unfreezing(
    groups: Sequence[Sequence[nn.Parameter]], *, epochs_each: int
) -> tuple[Stage, ...]:
    """Stages that train one more group, from the last, every `epochs_each` epochs.

    Before the last group comes, the classifier, which is in none of them, is trained alone. Howard
    & Ruder 2018, Universal Language Model Fine-tuning, arXiv:1801.06146.
    """
    return tuple(
        Stage(epochs_each * (number + 1), tuple(group))
        for number, group in enumerate(reversed(groups))
    )
