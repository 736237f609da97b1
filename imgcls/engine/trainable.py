"""What is trained in which epoch, and what the norm layers do meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn
from torch.nn.modules.batchnorm import _NormBase


@dataclass(frozen=True)
class Stage:
    """Parameters that are trained from epoch `first_epoch` (from 0) on."""

    first_epoch: int
    parameters: tuple[nn.Parameter, ...]


@dataclass(frozen=True)
class Trainable:
    """A function of the epoch alone, so a resumed run needs no record of it.

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
        for module in model.modules():
            own = list(module.parameters(recurse=False))
            trained = any(parameter.requires_grad for parameter in own)
            if isinstance(module, _NormBase) and (self.frozen_norms or (own and not trained)):
                module.eval()


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
