"""The learning-rate schedule, by timm: a pure function of the number of updates made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.scheduler import create_scheduler_v2

from imgcls.errors import ConfigError


class Schedule:
    """timm's scheduler, stepped once an update.

    Its state is the number of updates alone: the rate follows from it and the configuration, so a
    resumed run, also one that was given more epochs, takes exactly the rate due.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        sched: str,
        epochs: int,
        warmup_epochs: float,
        min_lr: float,
        steps_per_epoch: int,
    ) -> None:
        self._optimizer = optimizer
        try:
            self._scheduler, _ = create_scheduler_v2(
                optimizer,
                sched=sched,
                num_epochs=epochs,
                min_lr=min_lr,
                warmup_epochs=warmup_epochs,
                warmup_lr=0.01 * min(group["lr"] for group in optimizer.param_groups),
                # timm's 90-epoch steps never come in a short run
                decay_epochs=max(1, epochs // 3) if sched == "step" else None,
                # for poly this is the power: 1 is the linear decay
                decay_rate=1.0 if sched == "poly" else 0.1,
                step_on_epochs=False,
                updates_per_epoch=steps_per_epoch,
            )
        except (ValueError, AssertionError) as error:
            raise ConfigError(f"optim.sched (--sched) {sched}: {error}") from error
        self.updates = 0
        self._apply()

    @property
    def lr(self) -> float:
        """The largest learning rate of any parameter group, for the update about to be made."""
        return max(float(group["lr"]) for group in self._optimizer.param_groups)

    @property
    def peak_lr(self) -> float:
        """The largest learning rate of any parameter group at the end of the warm-up."""
        # timm keeps what each group began with, and how its layer's rate is scaled
        groups = self._optimizer.param_groups
        return max(float(g["initial_lr"] * g.get("lr_scale", 1.0)) for g in groups)

    def step(self) -> None:
        """Set the rates for the next update."""
        self.updates += 1
        self._apply()

    def _apply(self) -> None:
        self._scheduler.step_update(self.updates)

    def state_dict(self) -> dict[str, Any]:
        """The number of updates made."""
        return {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after that many updates."""
        self.updates = int(state["updates"])
        self._apply()
