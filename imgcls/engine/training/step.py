"""One update of the weights from one or more batches."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from imgcls.engine.device.batches import ComputeSettings, TrainBatch, TrainBatcher
from imgcls.engine.device.runtime import autocast, set_tf32, to_host
from imgcls.engine.training.ema import WeightAverage
from imgcls.engine.training.parallel.data_parallel import DataParallel
from imgcls.engine.training.parallel.whole_batch import part_of_batch
from imgcls.engine.training.schedule import Schedule
from imgcls.engine.training.trainable import Trainable
from imgcls.errors import BadImageError, NonFiniteError


@dataclass
class Learner:
    """What an update reads and changes.

    parallel: where other processes make the same updates from other parts of each batch.
    """

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
    parallel: DataParallel | None = None

    def begin_epoch(self, epoch: int) -> None:
        """Make ready to train the epoch of this number (from 0).

        In training's float32, which has TF32 on a GPU: an evaluation in the same process may have
        switched it off since the parts were built.
        """
        set_tf32(self.compute.device, allowed=True)
        self.trainable.begin_epoch(self.model, epoch)
        if self.parallel is not None:
            self.parallel.begin_epoch(self.model, self.compute.device)

    def loss_of(self, batch: TrainBatch) -> torch.Tensor:
        """The mean loss of the batch's pictures; 0 for a part without any."""
        parallel = self.parallel
        empty = not len(batch.labels)
        images, targets = self.batcher.prepare(parallel.blank() if empty and parallel else batch)
        with autocast(self.compute.device, self.compute.precision):
            if parallel is not None:
                logits = parallel.forward(images, batch)
            else:
                with part_of_batch(batch.rows, batch.whole_size, None):
                    logits = self.model(images)
        loss: torch.Tensor = self.loss(logits.float(), targets)
        return loss * 0.0 if empty else loss


# half-precision training halves its scale after each gradient that is too large; below this there
# is nothing left to halve, and every update would be skipped
_LEAST_SCALE = 1e-4


def train_step(
    learner: Learner, micro_batches: Sequence[TrainBatch], step: int
) -> tuple[float, int]:
    """Make update number `step` (from 0) and return (sum of the pictures' losses, pictures).

    The gradient is that of the mean loss over all pictures of the micro-batches, whatever their
    sizes, in all processes that make this update. Raises NonFiniteError before any weight changes,
    for a loss or a gradient; in fp16 a gradient beyond the scale is usual, and the update is
    skipped.
    """
    samples = sum(len(batch.labels) for batch in micro_batches)
    parallel = learner.parallel
    if parallel is None:
        return _update(learner, micro_batches, step, samples)
    samples = parallel.count(samples)
    if not samples:
        raise BadImageError("none of the pictures of an update can be read")
    with parallel.world.inseparable():
        return _update(learner, micro_batches, step, samples)


def _update(
    learner: Learner, micro_batches: Sequence[TrainBatch], step: int, samples: int
) -> tuple[float, int]:
    parallel = learner.parallel
    losses = []
    learner.optimizer.zero_grad(set_to_none=True)
    for number, batch in enumerate(micro_batches, start=1):
        is_last = number == len(micro_batches)
        with contextlib.nullcontext() if parallel is None else parallel.synced(is_last=is_last):
            loss = learner.loss_of(batch)
            losses.append(to_host(loss.detach()))
            share = len(batch.labels) / samples
            learner.scaler.scale(loss * share).backward(  # type: ignore[no-untyped-call]
                create_graph=getattr(learner.optimizer, "is_second_order", False)
            )
    learner.scaler.unscale_(learner.optimizer)
    gradients = [p.grad for p in learner.model.parameters() if p.grad is not None]
    norm = (nn.utils.get_total_norm if parallel is None else parallel.total_norm)(gradients)
    norm_value = to_host(norm.detach())
    # the one time in a step that a GPU is waited for: behind the gradients, before the update
    loss_sum, error = 0.0, None
    for batch, loss_value in zip(micro_batches, losses, strict=True):
        value = float(loss_value())
        if error is None and not math.isfinite(value):
            error = NonFiniteError(_non_finite_loss(value, step, batch, learner))
        loss_sum += value * len(batch.labels)
    if parallel is not None:
        loss_sum = parallel.meet(loss_sum, error=error)
    elif error is not None:
        raise error
    finite = math.isfinite(float(norm_value()))
    if not finite and not learner.scaler.is_enabled():
        raise _non_finite_gradient(step, micro_batches, learner)
    if learner.clip_grad is not None:
        nn.utils.clip_grads_with_norm_(learner.model.parameters(), learner.clip_grad, norm)
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    if not finite and learner.scaler.get_scale() < _LEAST_SCALE:
        raise _non_finite_gradient(step, micro_batches, learner)
    learner.schedule.step()
    if learner.average is not None:
        learner.average.update(learner.model, step + 1)
    return loss_sum, samples


def _non_finite_loss(value: float, step: int, batch: TrainBatch, learner: Learner) -> str:
    return _diverged(f"the loss became {value}", step, batch.keys, learner)


def _non_finite_gradient(
    step: int, batches: Sequence[TrainBatch], learner: Learner
) -> NonFiniteError:
    broken = [
        name
        for name, parameter in learner.model.named_parameters()
        if parameter.grad is not None and not parameter.grad.isfinite().all()
    ]
    of = f" of {broken[-1]}" if broken else ""
    keys = [key for batch in batches for key in batch.keys]
    error = NonFiniteError(_diverged(f"the gradient{of} became inf or nan", step, keys, learner))
    if learner.parallel is not None:
        learner.parallel.world.settle()
    return error


def _diverged(what: str, step: int, keys: Sequence[str], learner: Learner) -> str:
    shown = ", ".join(keys[:8]) + (", ..." if len(keys) > 8 else "")  # noqa: PLR2004
    return (
        f"{what} at step {step} ({rates(learner, learner.schedule.lr)}); the update was not made "
        f"and the last checkpoint is as it was; {calmer(learner)}; pictures of the batch: {shown}"
    )


def rates(learner: Learner, lr: float) -> str:
    """A step's learning rate and the highest: while warming up they are far apart."""
    return f"lr {lr:.2g}, highest {learner.schedule.peak_lr:.2g}"


def calmer(learner: Learner) -> str:
    """What to do about a training that diverged."""
    ways = [f"a --lr below {learner.schedule.peak_lr:.2g}"]
    if learner.compute.precision is not None:
        ways.append("--amp off")
    elif learner.clip_grad is None:
        ways.append("--clip-grad 1.0")
    return f"train again with {' or '.join(ways)}"
