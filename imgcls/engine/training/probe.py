"""One update of training, to be timed or tried before any training begins."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from imgcls.config.optim import OptimConfig
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import autocast, set_tf32
from imgcls.engine.training.optim import build_optimizer, default_lr


def training_step(
    model: nn.Module, compute: ComputeSettings, optim: OptimConfig, *, compiled: bool = False
) -> Callable[[torch.Tensor], None]:
    """A function that makes one update of the model, from pictures float32 [B, C, H, W].

    Labels matter to no time; every other picture is of the second class. float32 is training's own,
    which has TF32 on a GPU.
    """
    set_tf32(compute.device, allowed=True)
    model.train()
    if compiled:
        torch.compiler.reset()
        model.compile()
    optimizer = build_optimizer(model, optim, default_lr(optim.opt, fine_tuning=True)[0])
    loss_of = nn.CrossEntropyLoss()
    scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.precision is torch.float16)

    def step(images: torch.Tensor) -> None:
        labels = torch.arange(len(images), device=compute.device) % 2
        optimizer.zero_grad(set_to_none=True)
        with autocast(compute.device, compute.precision):
            logits = model(images)
        scaler.scale(loss_of(logits.float(), labels)).backward()
        scaler.step(optimizer)
        scaler.update()

    return step


class Noise(NamedTuple):
    """A batch that was loaded from nowhere."""

    images: torch.Tensor
    labels: torch.Tensor
    keys: tuple[str, ...]
    valid: torch.Tensor
    rows: None = None
    whole_size: None = None


def noise_batch(input_size: tuple[int, int, int], num_classes: int, pictures: int) -> Noise:
    """So many pictures of noise, of all classes in turn, as loaders give them."""
    channels, height, width = input_size
    pixels = torch.randint(0, 256, (pictures, height, width, channels), dtype=torch.uint8)
    return Noise(
        pixels.movedim(-1, 1),
        torch.arange(pictures) % num_classes,
        ("noise",) * pictures,
        torch.ones(pictures, dtype=torch.bool),
    )
