"""Memory: what training will take, by one pass on the meta device, and what there is."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable
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


def available_memory_mib() -> float:
    """MiB of main memory that this process may still take, by the system and its control group."""
    free_bytes = [_meminfo_available_bytes()]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())  # "max" where there is none
        used = int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # cached files count as used, but give way
        free_bytes.append(limit - used + int(stat.get("inactive_file", 0)))
    return min(free_bytes) / _MIB


def _meminfo_available_bytes() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    # elsewhere: half of what is built in
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def fits_when_tried(step: Callable[[int], None], batch_size: int) -> bool:
    """True when `step(batch_size)` does not run out of the device's memory."""
    try:
        step(batch_size)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return True


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
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
