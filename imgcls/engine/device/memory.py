"""Memory: what training will take, by one pass on the meta device, and what there is."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch
from torch import nn

from imgcls.engine.device.runtime import synchronize
from imgcls.engine.device.timing import peak_memory_mib, reset_peak_memory

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
    """MiB of main memory that this process may still take, by the system and its control groups."""
    left = _left_in_control_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return min(int(psutil.virtual_memory().available), *left) / _MIB


def _left_in_control_groups(own: Path, root: Path) -> Iterator[int]:
    """Bytes that each group around this process leaves it: version 2, and the memory ones of 1.

    own: the list of its groups; root: where groups are mounted. Slurm and systemd set the limit in
    a group between the root and the process.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
            tops = [root, root / "unified"]
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            tops = [root / "memory"]
        else:
            continue
        for top in tops:
            group = top / path.lstrip("/")
            # in a container the path may be the host's, and the group is the root
            for folder in (group, *group.parents):
                yield from _left(folder, *names)
                if folder == top:
                    break


def _left(group: Path, limit_name: str, used_name: str, cached_name: str) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError):
        limit = int((group / limit_name).read_text())  # "max" where there is none
        used = int((group / used_name).read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # cached files count as used, but give way
        yield limit - used + int(stat.get(cached_name, 0))


def held_memory_mib(device: torch.device) -> float:
    """MiB that this process holds now: of the device's memory on cuda, else of the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device)) / _MIB
    return int(psutil.Process().memory_info().rss) / _MIB


def peak_of(step: Callable[[], object], device: torch.device) -> float | None:
    """MiB that this process holds at the peak of a step; None where the system does not tell.

    On cuda with what the allocator has in reserve, which no other process can have.
    """
    if not reset_peak_memory(device):
        return None
    step()
    synchronize(device)
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device)) / _MIB
    return peak_memory_mib(device)


def fits_when_tried(step: Callable[[int], object], batch_size: int) -> bool:
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
