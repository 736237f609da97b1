"""Memory: what training will take, by one pass on the meta device, and what there is."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

_MIB = 2**20


def guess_training_memory_mib(
    model: nn.Module, input_size: tuple[int, int, int], batch_size: int, *, half: bool = False
) -> float:
    """MiB for weights, gradients, two optimizer moments and one batch's saved activations.

    Activations are what autograd keeps in a forward pass of two pictures that computes nothing,
    scaled to the batch; with `half` they count half. Workspaces of the kernels come on top.
    """
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    fixed_bytes = 4 * total + 3 * 4 * trainable
    saved_bytes = _saved_bytes(model, input_size, pictures=2) / 2 * batch_size
    return (fixed_bytes + saved_bytes * (0.5 if half else 1.0)) / _MIB


def _saved_bytes(model: nn.Module, input_size: tuple[int, int, int], pictures: int) -> int:
    shadow = copy.deepcopy(model).to("meta").train()
    own = {id(p) for p in shadow.parameters()}
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in own:
            seen[id(tensor.untyped_storage())] = tensor.untyped_storage().nbytes()
            kept.append(tensor)
        return tensor

    kept: list[torch.Tensor] = []  # alive until counted, so that no two share an id
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        shadow(torch.empty(pictures, *input_size, device="meta"))
    return sum(seen.values())


def is_out_of_memory(error: BaseException) -> bool:
    """True when torch could not get memory, on a device or on the CPU."""
    # the CPU's allocator has no error of its own
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def available_memory_mib() -> float | None:
    """What the system says new work may take; None where it does not say (other than Linux)."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(x.split()[1]) / 1024 for x in lines if x.startswith("MemAvailable:")), None)
