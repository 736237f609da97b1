"""One update of the weights from one or more batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from imgcls.engine.batches import Batch, ComputeSettings, TrainBatcher
from imgcls.engine.ema import WeightAverage
from imgcls.engine.runtime import autocast
from imgcls.engine.schedule import Schedule
from imgcls.engine.trainable import Trainable
from imgcls.errors import NonFiniteLossError


@dataclass
class Learner:
    """What an update reads and changes."""

    model: nn.Module
    trainable: Trainable
    loss: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    average: WeightAverage | None
    batcher: TrainBatcher
    compute: ComputeSettings
    clip_grad: float | None


def train_step(learner: Learner, micro_batches: Sequence[Batch], step: int) -> tuple[float, int]:
    """Make update number `step` (from 0) and return (sum of the pictures' losses, pictures).

    The gradient is that of the mean loss over all pictures of the micro-batches, whatever their
    sizes. Raises NonFiniteLossError before any weight changes.
    """
    samples = sum(len(batch.labels) for batch in micro_batches)
    loss_sum = 0.0
    learner.optimizer.zero_grad(set_to_none=True)
    for batch in micro_batches:
        images, targets = learner.batcher.prepare(batch)
        with autocast(learner.compute.device, learner.compute.precision):
            logits = learner.model(images)
        loss = learner.loss(logits.float(), targets)
        loss_value = _on_its_way(loss.detach())
        share = len(batch.labels) / samples
        learner.scaler.scale(loss * share).backward(
            create_graph=getattr(learner.optimizer, "is_second_order", False)
        )
        # the device is busy with the backward pass by now and need not wait for us
        value = loss_value()
        if not math.isfinite(value):
            raise NonFiniteLossError(_non_finite(value, step, batch, learner))
        loss_sum += value * len(batch.labels)
    if learner.clip_grad is not None:
        learner.scaler.unscale_(learner.optimizer)
        nn.utils.clip_grad_norm_(learner.model.parameters(), learner.clip_grad)
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    learner.schedule.step()
    if learner.average is not None:
        learner.average.update(learner.model, step + 1)
    return loss_sum, samples


def _on_its_way(loss: torch.Tensor) -> Callable[[], float]:
    """A function that waits for the loss, but not for what its device was asked to do later."""
    if loss.device.type != "cuda":
        return lambda: float(loss)
    value = torch.empty((), dtype=loss.dtype, pin_memory=True)
    value.copy_(loss, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def wait() -> float:
        copied.synchronize()
        return float(value)

    return wait


def _non_finite(value: float, step: int, batch: Batch, learner: Learner) -> str:
    shown = ", ".join(batch.keys[:8]) + (", ..." if len(batch.keys) > 8 else "")  # noqa: PLR2004
    advice = (
        "try a lower --lr or --amp off"
        if learner.compute.precision is not None
        else "try a lower --lr or --clip-grad 1.0"
    )
    return (
        f"the loss became {value} at step {step} (lr {learner.schedule.lr:.2g}); the update was "
        f"not made; {advice}; pictures of the batch: {shown}"
    )
