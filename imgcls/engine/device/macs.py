"""The multiply-accumulates of one forward pass, counted without computing anything."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, input_size: tuple[int, int, int]) -> int | None:
    """Multiply-accumulates for one picture: convolutions, matrix products and attention.

    None for a model that cannot be run on the meta device, where nothing is computed.
    """
    shadow = copy.deepcopy(model).to("meta").eval()
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            shadow(torch.empty(1, *input_size, device="meta"))
    except (NotImplementedError, RuntimeError):
        return None
    return int(counter.get_total_flops()) // 2
