"""The running average of the weights."""

from __future__ import annotations

from timm.utils import ModelEmaV3
from torch import nn


class WeightAverage:
    """timm's ModelEmaV3 with its warm-up, so that a short run is not its first weights.

    Its state is the averaged model's, which a checkpoint keeps as the weights to use.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._average = ModelEmaV3(model, decay=decay, use_warmup=True)

    @property
    def model(self) -> nn.Module:
        """The averaged model, in evaluation mode."""
        module: nn.Module = self._average.module
        return module

    def restart(self, model: nn.Module) -> None:
        """Begin anew from the model's weights as they are."""
        self._average.set(model)

    def update_one_by_one(self) -> None:
        """Take tensors in one by one, where some of them are divided among processes.

        Torch's kernels for many at a time take no others beside those.
        """
        self._average.foreach = False

    def update(self, model: nn.Module, step: int) -> None:
        """Take in the model's weights after update number `step` (counted from 1)."""
        self._average.update(model, step=step)
