"""The settings that were asked for, all there are, and the largest batch that fits."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import product

import torch

from imgcls.config.benchmark import BenchmarkConfig
from imgcls.config.optim import OptimConfig
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.memory import available_memory_mib, is_out_of_memory
from imgcls.engine.device.runtime import resolve_precision, synchronize
from imgcls.engine.device.timing import peak_memory_mib, reset_peak_memory
from imgcls.engine.scoring.backends import BACKENDS, by_torch
from imgcls.engine.training.probe import training_step
from imgcls.errors import DeviceMemoryError, RequestError
from imgcls.jobs.backends import check_backend
from imgcls.jobs.benchmark.single import placed, synthetic_images
from imgcls.jobs.benchmark.subject import Setting, Subject

_OWN_LAYOUT = ("onnxruntime", "openvino")
_LARGEST_BATCH = 4096
_LONGEST_BATCH_S = 4.0
_MEMORY_SHARE = 0.7


def asked_ways(
    config: BenchmarkConfig, device: torch.device
) -> tuple[list[tuple[str, ComputeSettings]], list[str]]:
    """Backends with precisions and layout, and why others were left out.

    Raises ConfigError or DeviceError when no way that was asked for can be gone. With `find_best`
    these are all the ways there are.
    """
    backends: tuple[str, ...]
    precisions: tuple[str, ...]
    backends, precisions = config.backends, config.amp
    layouts: tuple[bool, ...] = (config.channels_last is not False,)
    if config.find_best:
        backends = BACKENDS[:2] if config.train else BACKENDS
        precisions = ("off", "bf16") if device.type == "cpu" else ("off", "bf16", "fp16")
        layouts = (False, True)
    wanted = list(product(backends, precisions, layouts))
    ways: dict[tuple[str, ComputeSettings], None] = {}
    problems: dict[str, RequestError] = {}
    for backend, precision, channels_last in wanted:
        compute = _compute(backend, precision, device, channels_last=channels_last)
        if isinstance(compute, RequestError):
            problems[str(compute)] = compute
        else:
            ways[backend, compute] = None
    if not ways:
        raise next(iter(problems.values()))
    return list(ways), list(problems)


def _compute(
    backend: str, precision: str, device: torch.device, *, channels_last: bool
) -> ComputeSettings | RequestError:
    try:
        compute = ComputeSettings(
            device,
            resolve_precision(precision, device),
            channels_last and backend not in _OWN_LAYOUT,
        )
        check_backend(backend, compute)
    except RequestError as error:
        return error
    return compute


def largest_batch(fits: Callable[[int], bool], limit: int = _LARGEST_BATCH) -> int:
    """The largest size up to `limit` that fits, to a sixteenth of itself; 0 when none does.

    By doubling, then bisection. fits: asked about each size at most once.
    """
    low, high = 0, 1
    while high <= limit and fits(high):
        low, high = high, high * 2
    high = min(high, limit + 1)
    while high - low > max(1, low // 16):
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def find_batch_size(subject: Subject, compute: ComputeSettings, *, train: bool) -> tuple[int, str]:
    """(the largest batch that fits, why none larger is taken), tried with torch itself.

    Raises DeviceMemoryError when not even one picture fits. Otherwise memory that runs out is an
    answer. A CPU is not driven there, since the system would end some process; nor does a batch
    take longer than a few seconds.
    """
    model = placed(subject, compute)
    reason = "the search ends there"
    peaks_mib: dict[int, float] = {}

    def fits(batch_size: int) -> bool:
        nonlocal reason
        if train and batch_size == 1:
            return True  # batch norm may refuse it, for another reason than its size
        if not _leaves_memory(peaks_mib, batch_size, compute.device):
            reason = "larger ones would leave too little memory"
            return False
        reset_peak_memory(compute.device)
        start_s = time.perf_counter()
        try:
            images = synthetic_images(subject, Setting("torch", compute, batch_size))
            if train:
                training_step(model, compute, OptimConfig())(images)
            else:
                by_torch(model, compute)(images)
            synchronize(compute.device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = "larger ones run out of memory"
            return False
        finally:
            if compute.device.type == "cuda":
                torch.cuda.empty_cache()
        peaks_mib[batch_size] = peak_memory_mib(compute.device) or 0.0
        if time.perf_counter() - start_s > _LONGEST_BATCH_S:
            reason = f"larger ones take more than {_LONGEST_BATCH_S:.0f} s a batch"
            return False
        return True

    largest = largest_batch(fits)
    if not largest:
        raise DeviceMemoryError(f"{subject.name}: no batch fits {compute.device}; {reason}")
    return largest, reason


def _leaves_memory(peaks_mib: Mapping[int, float], batch_size: int, device: torch.device) -> bool:
    """False when a straight line through the last two peaks ends beyond what the system has."""
    available_mib = available_memory_mib() if device.type == "cpu" else None
    if available_mib is None or len(peaks_mib) < 2:  # noqa: PLR2004  no line yet
        return True
    (n0, peak0), (n1, peak1) = sorted(peaks_mib.items())[-2:]
    predicted_mib = peak1 + (peak1 - peak0) / (n1 - n0) * (batch_size - n1)
    return predicted_mib - min(peaks_mib.values()) < _MEMORY_SHARE * available_mib
