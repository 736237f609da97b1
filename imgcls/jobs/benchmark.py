"""Time a model on synthetic batches, on the device, when it has settled."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from imgcls.config.benchmark import BenchmarkConfig
from imgcls.config.model import ModelConfig
from imgcls.engine.batches import ComputeSettings
from imgcls.engine.checkpoint import find_checkpoint, load_checkpoint, read_checkpoint
from imgcls.engine.runtime import amp_name, autocast, device_label, synchronize, versions
from imgcls.errors import DeviceMemoryError, ModelError
from imgcls.jobs.assemble import compute_settings
from imgcls.metrics.speed import latency_percentiles, speed_metrics
from imgcls.models.build import count_parameters, create_model
from imgcls.models.card import model_from_card, preprocessing, preprocessing_from_card
from imgcls.results import BenchmarkReport

_LEAST_WARMUP_BATCHES = 5
_MOST_WARMUP_BATCHES = 50
_SETTLED_SPREAD = 0.05


def benchmark(
    config: BenchmarkConfig, on_batch: Callable[[int, int], None] = lambda _done, _total: None
) -> BenchmarkReport:
    """Latency, throughput and memory of a model in evaluation mode.

    Raises DeviceError when the device or precision is not there, ModelError and CheckpointError
    for what cannot be built.
    """
    compute = compute_settings(config.device, config.amp, channels_last=config.channels_last)
    model, name, input_size = _model(config)
    model = compute.place(model.eval())
    parameters = count_parameters(model)[1]
    if config.compile:
        model.compile()
    try:
        warmup, times_s = _measure(model, input_size, compute, config, on_batch)
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(
            f"{compute.device} is out of memory; try a smaller --batch-size"
        ) from error
    percentiles = latency_percentiles(times_s)
    sizes = [config.batch_size] * len(times_s)
    return BenchmarkReport(
        model_name=name,
        device=str(compute.device),
        device_name=device_label(compute.device),
        precision=amp_name(compute.precision),
        channels_last=config.channels_last,
        compiled=config.compile,
        batch_size=config.batch_size,
        input_size=input_size,
        parameters=parameters,
        warmup_batches=warmup,
        timed_batches=len(times_s),
        latency_mean_ms=float(np.mean(times_s) * 1e3),
        latency_p50_ms=percentiles["p50"],
        latency_p90_ms=percentiles["p90"],
        latency_p99_ms=percentiles["p99"],
        peak_memory_mib=_peak_memory_mib(compute.device),
        speed_metrics=speed_metrics(times_s, sizes, str(compute.device)),
        versions=versions(),
    )


def benchmark_inference_speed(
    model: nn.Module,
    input_size: tuple[int, int, int],
    *,
    batch_size: int = 1,
    num_samples: int = 64,
    device: str = "auto",
) -> dict[str, object]:
    """The `speed_metrics` of a model on synthetic batches, for use from Python."""
    config = BenchmarkConfig(batch_size=batch_size, num_samples=num_samples, device=device)
    compute = compute_settings(device, "off", channels_last=False)
    _, times_s = _measure(
        compute.place(model.eval()), input_size, compute, config, lambda _done, _total: None
    )
    return speed_metrics(times_s, [batch_size] * len(times_s), str(compute.device))


def _model(config: BenchmarkConfig) -> tuple[nn.Module, str, tuple[int, int, int]]:
    path = Path(config.model)
    if path.exists():
        checkpoint = read_checkpoint(find_checkpoint(path))
        if config.img_size != "auto":
            raise ModelError(
                "--img-size: a checkpoint is timed at its own input size; leave it out"
            )
        model = model_from_card(checkpoint.card)
        load_checkpoint(model, checkpoint.folder)
        name = str(checkpoint.card["architecture"])
        return model, name, preprocessing_from_card(checkpoint.card).input_size
    model = create_model(ModelConfig(name=config.model, pretrained=False, img_size=config.img_size))
    return model, config.model, preprocessing(model, "crop").input_size


@torch.inference_mode()
def _measure(
    model: nn.Module,
    input_size: tuple[int, int, int],
    compute: ComputeSettings,
    config: BenchmarkConfig,
    on_batch: Callable[[int, int], None],
) -> tuple[int, list[float]]:
    """(number of warm-up batches, seconds of each timed batch)."""
    images = torch.randn(config.batch_size, *input_size, device=compute.device)
    images = images.contiguous(memory_format=compute.memory_format)

    def one_batch_s() -> float:
        start_s = time.perf_counter()
        with autocast(compute.device, compute.precision):
            model(images)
        synchronize(compute.device)
        return time.perf_counter() - start_s

    synchronize(compute.device)
    warmup_s: list[float] = []
    while len(warmup_s) < _MOST_WARMUP_BATCHES and not _has_settled(warmup_s):
        warmup_s.append(one_batch_s())
    if compute.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(compute.device)
    batches = -(-config.num_samples // config.batch_size)
    times_s = []
    for done in range(batches):
        times_s.append(one_batch_s())
        on_batch(done + 1, batches)
    return len(warmup_s), times_s


def _has_settled(times_s: list[float]) -> bool:
    """True when the medians of the last two groups of batches agree within a few percent."""
    if len(times_s) < 2 * _LEAST_WARMUP_BATCHES:
        return False
    recent = np.array(times_s[-2 * _LEAST_WARMUP_BATCHES :])
    earlier, later = np.median(np.split(recent, 2), axis=1)
    return bool(abs(earlier - later) <= _SETTLED_SPREAD * later)


def _peak_memory_mib(device: torch.device) -> float | None:
    """Peak memory: the device's own on cuda, the process's on a CPU, unknown on mps."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if device.type == "cpu":
        if sys.platform == "win32":
            return None
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
    return None
