"""Tensors of which each process holds some rows: cut from a whole one, and whole again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.distributed.tensor import DTensor


def copy_to_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU, whole; of a divided tensor all processes must ask for it together."""
    found = whole(tensor) if isinstance(tensor, DTensor) else tensor
    return found.detach().to("cpu", copy=True)


def whole(tensor: DTensor) -> torch.Tensor:
    """The tensor that all processes hold together; all must ask for it at the same point."""
    rows, mesh = tensor.to_local(), tensor.device_mesh
    if rows.device.type != mesh.device_type:
        tensor = DTensor.from_local(
            rows.to(mesh.device_type),
            mesh,
            tensor.placements,
            run_check=False,
            shape=tensor.shape,
            stride=tensor.stride(),
        )
    return tensor.full_tensor()


def bring_together(tree: Any) -> None:
    """Take part in what `copy_to_cpu` does with each tensor of the main process's same tree."""
    if isinstance(tree, DTensor):
        whole(tree)
    elif isinstance(tree, Mapping):
        for value in tree.values():
            bring_together(value)
    elif isinstance(tree, (list, tuple)):
        for value in tree:
            bring_together(value)


def part_of(tensor: torch.Tensor, like: DTensor) -> DTensor:
    """This process's rows of a whole tensor, which is divided as `like` is, of the same shape."""
    mesh = like.device_mesh
    each = -(-tensor.shape[0] // mesh.size())
    begin = min(mesh.get_local_rank() * each, tensor.shape[0])
    # a copy: a view would keep all of it
    rows = tensor[begin : begin + like.to_local().shape[0]].to(mesh.device_type, copy=True)
    return DTensor.from_local(
        rows,
        mesh,
        like.placements,
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )
