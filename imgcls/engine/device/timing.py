"""Time one step over and over: when it has settled, synchronised with the device."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from imgcls.engine.device.runtime import synchronize
from imgcls.metrics.speed import has_settled

_LEAST_WARMUP_S, _MOST_WARMUP_S = 0.3, 20.0
_MOST_WARMUP_BATCHES = 200
_TIMED_S, _LEAST_BATCHES = 3.0, 10
_FEWEST_WARMUP_BATCHES = 3
_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Timing:
    """What timing a step gives.

    batch_times_s: each from asking the device to its answer. stream_s: on a GPU the time of as
    many batches none of which is waited for, as in a loop that keeps the device busy.
    peak_memory_mib: the device's on cuda, the process's on a CPU, None where it is not known.
    """

    warmup_batches: int
    settled: bool
    batch_times_s: tuple[float, ...]
    stream_s: float | None
    peak_memory_mib: float | None


def time_step(step: Callable[[], object], device: torch.device, batches: int | None) -> Timing:
    """Warm up until the median settles, then time `batches` of them, or for 3 s when None.

    Raises torch.OutOfMemoryError, and whatever the step raises.
    """
    synchronize(device)
    reset_peak_memory(device)
    warmup_s = warm_up(step, device)
    times_s: list[float] = []
    start_s = time.perf_counter()
    while len(times_s) < (batches or _LEAST_BATCHES) or (
        batches is None and time.perf_counter() - start_s < _TIMED_S
    ):
        times_s.append(seconds(step, device))
    return Timing(
        warmup_batches=1 + len(warmup_s),
        settled=has_settled(warmup_s),
        batch_times_s=tuple(times_s),
        stream_s=None if device.type == "cpu" else _stream_s(step, device, len(times_s)),
        peak_memory_mib=peak_memory_mib(device),
    )


def warm_up(step: Callable[[], object], device: torch.device) -> list[float]:
    """The seconds of steps until their median has settled, behind one that may compile."""
    seconds(step, device)
    warmup_s: list[float] = []
    while _wants_warmup(warmup_s):
        warmup_s.append(seconds(step, device))
    return warmup_s


def seconds(step: Callable[[], object], device: torch.device) -> float:
    """How long the device takes for a step, to its end."""
    start_s = time.perf_counter()
    step()
    synchronize(device)
    return time.perf_counter() - start_s


def reset_peak_memory(device: torch.device) -> bool:
    """Forget the peak so far; False where the system does not let a process do so."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return True
    if device.type != "cpu":
        return False
    try:
        _CLEAR_REFS.write_text("5", encoding="ascii")  # see proc(5)
    except OSError:
        return False  # another system than Linux, or a sandbox: the peak is the process's, ever
    return True


def peak_memory_mib(device: torch.device) -> float | None:
    """Peak memory: the device's own on cuda, the process's on a CPU, unknown on mps."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if device.type != "cpu":
        return None
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**20
    if sys.platform == "linux":
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _wants_warmup(times_s: list[float]) -> bool:
    spent_s = sum(times_s)
    if len(times_s) >= _MOST_WARMUP_BATCHES and spent_s >= _LEAST_WARMUP_S:
        return False
    if spent_s >= _MOST_WARMUP_S and len(times_s) >= _FEWEST_WARMUP_BATCHES:
        return False
    return spent_s < _LEAST_WARMUP_S or not has_settled(times_s)


def _stream_s(step: Callable[[], object], device: torch.device, batches: int) -> float:
    start_s = time.perf_counter()
    for _ in range(batches):
        step()
    synchronize(device)
    return time.perf_counter() - start_s
