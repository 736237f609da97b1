"""The optimizer, by timm."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any

import torch
from timm.optim import create_optimizer_v2, get_optimizer_info, list_optimizers
from torch import nn

from imgcls.config.optim import OptimConfig
from imgcls.errors import ConfigError

# the batch that the rates below are for
BASE_BATCH = 32
_SGD_LIKE = ("sgd", "momentum", "nesterov", "lars", "larc")
_SIGN_LIKE = ("lion",)


def default_lr(
    opt: str, *, fine_tuning: bool, batch_norms: bool = False, batch_size: int = BASE_BATCH
) -> tuple[float, str]:
    """The peak learning rate that `--lr auto` stands for, and why.

    Adam-like optimizers: 1e-3 for fresh weights, 1e-4 when layers of a pretrained model are tuned,
    4e-4 when it goes by batch norms (measured with adamw in examples/recipes, and for no other
    kind). sgd and its kin divide by no second moment and need about ten times 1e-3 or 1e-4; lion,
    whose steps all have full length, a tenth (Chen et al., 2023). That is for 32 pictures an
    update: adam-like rates grow with the square root of the batch (Malladi et al., "On the SDEs and
    scaling rules for adaptive gradient algorithms", 2022), those of sgd in proportion (Goyal et
    al., 2017).
    """
    name = opt.lower()
    sgd_like = any(word in name for word in _SGD_LIKE)
    sign_like = any(word in name for word in _SIGN_LIKE)
    is_faster = batch_norms and fine_tuning and not (sgd_like or sign_like)
    lr = 1e-4 if fine_tuning else 1e-3
    if is_faster:
        lr *= 4
    elif sgd_like:
        lr *= 10
    elif sign_like:
        lr /= 10
    what = "fine-tuning" if fine_tuning else "fresh weights"
    if is_faster:
        what += " with batch norms"
    usual = f"usual for {what} with {name} at batch {BASE_BATCH}"
    if batch_size == BASE_BATCH:
        return lr, f"lr {lr:.3g}: {usual}"
    ratio = batch_size / BASE_BATCH
    grown = lr * (ratio if sgd_like else math.sqrt(ratio))
    times = "times" if sgd_like else "times the square root of"
    return grown, f"lr {grown:.3g}: {lr:.3g}, {usual}, {times} {batch_size}/{BASE_BATCH}"


def build_optimizer(model: nn.Module, config: OptimConfig, lr: float) -> torch.optim.Optimizer:
    """The timm optimizer over the trainable parameters; norms and biases without weight decay.

    Raises ConfigError for a name timm does not know, with the nearest ones, and for settings the
    optimizer refuses.
    """
    known = [str(name) for name in list_optimizers()]
    if config.opt.lower() not in known:
        near = ", ".join(difflib.get_close_matches(config.opt.lower(), known, n=3)) or "adamw, sgd"
        raise ConfigError(f"optim.opt (--opt): timm has no optimizer {config.opt!r}; near: {near}")
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            model,
            opt=config.opt.lower(),
            lr=lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            # without decay one group for all layers steps faster than one a layer
            layer_decay=config.layer_decay if config.layer_decay < 1 else None,
            **_fused(config.opt.lower(), next(model.parameters()).device.type),
        )
    except (ImportError, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"optim.opt (--opt) {config.opt}: {error}") from error
    return optimizer


def takes_momentum(opt: str) -> bool:
    """Whether momentum says something to a timm optimizer; True for one that timm has not."""
    try:
        return bool(get_optimizer_info(opt.lower()).has_momentum)
    except ValueError:
        return True


def is_second_order(opt: str) -> bool:
    """Whether a timm optimizer differentiates gradients; False for one that timm has not."""
    try:
        return bool(get_optimizer_info(opt.lower()).second_order)
    except ValueError:
        return False


class OptimizerState:
    """An optimizer's state, with the generators it draws from, which its own state leaves out.

    timm's AdaHessian is such a one: without its generator a resumed run takes other directions.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's own state and its generators' states by name."""
        generators = {name: g.get_state() for name, g in self._generators().items()}
        return {"optimizer": self._optimizer.state_dict(), "generators": generators}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._optimizer.load_state_dict(state["optimizer"])
        for name, generator in self._generators().items():
            generator.set_state(state["generators"][name])

    def _generators(self) -> dict[str, torch.Generator]:
        attributes = vars(self._optimizer).items()
        return {name: value for name, value in attributes if isinstance(value, torch.Generator)}


def _fused(opt: str, device_type: str) -> dict[str, bool]:
    # one kernel for all steps of a tensor: three to five times faster on a CPU
    return {"fused": True} if opt in ("adam", "adamw") and device_type != "mps" else {}
