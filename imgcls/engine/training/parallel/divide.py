"""A learner whose weights and optimizer state are divided among processes, by torch's FSDP2.

What the main process has is what all have: it sends one tensor at a time, of which each keeps its
rows, so that no process but the main one ever holds all of the optimizer's state.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from imgcls.engine.device.divided import part_of
from imgcls.engine.device.world import World
from imgcls.engine.training.parallel.units import units
from imgcls.engine.training.selection.interpolation import Interpolation
from imgcls.engine.training.state import TrainState
from imgcls.engine.training.step import Learner

# those whose update of a number follows from that number's own gradients: rows can be had apart
OPTIMIZERS = (
    "adam",
    "adamw",
    "lion",
    "momentum",
    "nadam",
    "nadamw",
    "radam",
    "rmsprop",
    "sgd",
)


@dataclass(frozen=True)
class _Like:
    """What a tensor is like that another process has."""

    shape: torch.Size
    dtype: torch.dtype


def divide(
    learner: Learner, interpolation: Interpolation | None, world: World, *, compresses: bool
) -> None:
    """Divide a learner among all processes, in place, as it is in the main one.

    All call it together; in the others the learner is one that was just built. Weights are on the
    learner's device behind this, wherever they were. compresses: gradients travel as bfloat16.
    """
    model = learner.model
    models = [model] if learner.average is None else [model, learner.average.model]
    before = dict(model.named_parameters())
    mesh = init_device_mesh(learner.compute.device.type, (world.size,))
    policy = MixedPrecisionPolicy(reduce_dtype=torch.bfloat16 if compresses else None)
    for each in models:
        each.to("cpu")
        _send([*each.parameters(), *each.buffers()])
        for parameter in each.parameters():
            parameter.data = parameter.data.contiguous()
        for part in (*units(each), each):
            _configured(fully_shard(part, mesh=mesh, mp_policy=policy))
    if learner.average is not None:
        learner.average.update_one_by_one()
    after = dict(model.named_parameters())
    divided = {id(parameter): after[name] for name, parameter in before.items()}
    learner.trainable = replace(
        learner.trainable,
        stages=tuple(
            replace(stage, parameters=tuple(divided[id(p)] for p in stage.parameters))
            for stage in learner.trainable.stages
        ),
    )
    _divide_optimizer(learner.optimizer, divided, world)
    if interpolation is not None:
        _divide_interpolation(interpolation, models[-1], world)


def undivided(state: Mapping[str, Any]) -> dict[str, Any]:
    """What of a TrainState's state `divide` does not send."""
    kept = {name: part for name, part in state.items() if name != "model"}
    optimizer = kept["optimizer"]
    kept["optimizer"] = {**optimizer, "optimizer": {**optimizer["optimizer"], "state": {}}}
    if "interpolation" in kept:
        kept["interpolation"] = {**kept["interpolation"], "start": {}, "end": {}}
    return kept


def load_undivided(state: TrainState, saved: Mapping[str, Any]) -> None:
    """Give the parts what `undivided` kept of another process's."""
    for name, part in saved.items():
        state.parts[name].load_state_dict(part)


def _configured(module: FSDPModule) -> None:
    # sums, as torch's own data parallel training has them here: a picture's loss is divided by the
    # pictures of the whole update
    module.set_gradient_divide_factor(1.0)
    module.set_force_sum_reduction_for_comms(True)


def _send(tensors: Iterable[torch.Tensor]) -> None:
    for tensor in tensors:
        values = tensor.detach().contiguous()
        dist.broadcast(values, 0)
        tensor.detach().copy_(values)


def _divide_optimizer(
    optimizer: torch.optim.Optimizer, divided: Mapping[int, nn.Parameter], world: World
) -> None:
    state = optimizer.state_dict()["state"]
    for group in optimizer.param_groups:
        group["params"] = [divided[id(parameter)] for parameter in group["params"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.state = defaultdict(dict)
    described = world.from_main(partial(_described, state))
    placed = {
        number: {
            name: _placed(value, state.get(number, {}).get(name), parameters[number])
            for name, value in values.items()
        }
        for number, values in described.items()
    }
    # by its own way, which knows where each kind of state has to be
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": placed, "param_groups": groups})


def _described(state: Mapping[int, Mapping[str, Any]]) -> dict[int, dict[str, Any]]:
    return {
        number: {name: _like(value) for name, value in values.items()}
        for number, values in state.items()
    }


def _like(value: Any) -> Any:
    return _Like(value.shape, value.dtype) if isinstance(value, torch.Tensor) else value


def _placed(value: Any, own: torch.Tensor | None, like: torch.Tensor) -> Any:
    """What the main process has: of a tensor as large as `like`, divided as that is."""
    if not isinstance(value, _Like):
        return value
    sent = torch.empty(value.shape, dtype=value.dtype) if own is None else own.detach().cpu()
    sent = sent.contiguous()
    dist.broadcast(sent, 0)
    if isinstance(like, DTensor) and sent.shape == like.shape:
        return part_of(sent, like)
    return sent


def _divide_interpolation(line: Interpolation, model: nn.Module, world: World) -> None:
    state = line.state_dict()
    like = model.state_dict()
    for end in ("start", "end"):
        own: Mapping[str, torch.Tensor] = state[end]
        described: dict[str, Any] = world.from_main(partial(_each_like, own))
        state[end] = {
            name: _placed(value, own.get(name), like[name]).to("cpu")
            for name, value in described.items()
        }
    line.load_state_dict(state)


def _each_like(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    return {name: _like(value) for name, value in tensors.items()}
