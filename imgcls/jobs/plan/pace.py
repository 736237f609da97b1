"""How many pictures a step, how many epochs, at which rate: the numbers that `auto` stands for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from imgcls.config.run import TrainConfig
from imgcls.engine.training.optim import BASE_BATCH, default_lr

# where an epoch has fewer updates than this, small sets learn too little from it
_UPDATES_PER_EPOCH = 32
# beyond it a step is hardly faster a picture, and the rules for the rate no longer hold
_LARGEST_BATCH = 256
_SMALLEST_BATCH = 8
# what `--epochs auto` aims at, and its bounds
_UPDATES = 1000
_EPOCHS = (5, 40)


@dataclass(frozen=True)
class Pace:
    """Batch, rate and epochs, with a line of reason for each that was `auto`.

    grad_accum: batches an update.
    """

    batch_size: int
    grad_accum: int
    lr: float
    epochs: int
    warmup_epochs: float
    reasons: tuple[str, ...]

    def steps_per_epoch(self, pictures: int) -> int:
        """Updates in an epoch of so many pictures."""
        return -(-pictures // (self.batch_size * self.grad_accum))

    def resolved(self) -> dict[str, dict[str, Any]]:
        """The config's own fields that this decides."""
        return {
            "data": {"batch_size": self.batch_size},
            "optim": {"lr": self.lr, "epochs": self.epochs, "warmup_epochs": self.warmup_epochs},
        }


class Memory(Protocol):
    """Whether a batch of some size fits, and how that is known."""

    def fits(self, batch_size: int) -> bool:
        """Whether it fits."""

    def note(self, batch_size: int) -> str:
        """How that is known."""


def plan_pace(
    config: TrainConfig,
    *,
    pictures: int,
    fine_tuning: bool,
    memory: Memory,
    batch_norms: bool = False,
) -> Pace:
    """The pace of training on so many pictures.

    fine_tuning: all of a pretrained model is trained. batch_norms: it has some. memory is asked
    only where the batch size is to be found.
    """
    optim, data = config.optim, config.data
    reasons: list[str] = []
    if data.batch_size == "auto":
        batch_size, reason = choose_batch_size(pictures, optim.grad_accum, memory)
        reasons.append(reason)
    else:
        batch_size = data.batch_size
    per_update = batch_size * optim.grad_accum
    if optim.lr == "auto":
        # an update of a set that is smaller than the batch has no more pictures than the set
        seen = min(per_update, max(pictures, BASE_BATCH))
        lr, reason = default_lr(
            optim.opt, fine_tuning=fine_tuning, batch_norms=batch_norms, batch_size=seen
        )
        reasons.append(reason)
    else:
        lr = optim.lr
    steps = -(-pictures // per_update)
    if optim.epochs == "auto":
        epochs = min(max(round(_UPDATES / steps), _EPOCHS[0]), _EPOCHS[1])
        reasons.append(
            f"{epochs} epochs: about {_UPDATES:,} updates, but {_EPOCHS[0]} to {_EPOCHS[1]} epochs"
        )
    else:
        epochs = optim.epochs
    warmup = optim.warmup_epochs
    warmup_epochs = min(1.0, epochs / 5) if warmup == "auto" else min(warmup, epochs)
    return Pace(batch_size, optim.grad_accum, lr, epochs, warmup_epochs, tuple(reasons))


def choose_batch_size(pictures: int, grad_accum: int, memory: Memory) -> tuple[int, str]:
    """The largest power of two that fits and leaves an epoch enough updates, and the reason."""
    wanted = pictures / grad_accum / _UPDATES_PER_EPOCH
    ceiling = min(max(_power_of_two(wanted), _SMALLEST_BATCH), _LARGEST_BATCH)
    batch_size = ceiling
    while batch_size > 1 and not memory.fits(batch_size):
        batch_size //= 2
    if batch_size < ceiling:
        return batch_size, f"batch {batch_size}: the largest that fits ({memory.note(batch_size)})"
    if batch_size == _LARGEST_BATCH:
        limit = "a larger one is hardly faster"
    else:
        updates = -(-pictures // (2 * batch_size * grad_accum))
        limit = f"{2 * batch_size} would leave an epoch {updates} updates"
    return batch_size, f"batch {batch_size}: fits ({memory.note(batch_size)}); {limit}"


def _power_of_two(number: float) -> int:
    return 2 ** math.floor(math.log2(number)) if number >= 1 else 1
