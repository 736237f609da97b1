"""One model in one setting: its steps, its time, and whether its outputs agree."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from imgcls.config.optim import OptimConfig
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.memory import is_out_of_memory
from imgcls.engine.device.runtime import set_tf32
from imgcls.engine.device.timing import Timing, time_step
from imgcls.engine.scoring.backends import Runner, by_torch
from imgcls.engine.training.probe import training_step
from imgcls.engine.training.trainable import is_too_few
from imgcls.errors import ConfigError, DeviceMemoryError
from imgcls.jobs.backends import make_runner
from imgcls.jobs.benchmark.subject import Setting, Subject
from imgcls.metrics.speed import block_medians_ms, drift, latency_percentiles, speed_metrics
from imgcls.models.counting import count_parameters
from imgcls.results.benchmark import Agreement, PipelineTimes, TimedSetting

_SEED = 0


def time_setting(subject: Subject, setting: Setting, batches: int | None) -> TimedSetting:
    """Inference on synthetic batches. Raises DeviceMemoryError, and DeviceError of the backend."""
    compute = setting.compute
    with explaining(setting):
        images = synthetic_images(subject, setting)
        run = make_runner(setting.backend, placed(subject, compute), images, compute)
        agreement = agreement_of(subject, setting, images, run)
        timing = time_step(lambda: run(images), compute.device, batches)
    return timed(subject, setting, timing, "inference", agreement=agreement)


def time_training(subject: Subject, setting: Setting, batches: int | None) -> TimedSetting:
    """Forward, backward and the optimizer's step on one synthetic batch.

    Raises DeviceMemoryError, and ConfigError for a batch that is too small to train on.
    """
    compute = setting.compute
    with explaining(setting):
        images = synthetic_images(subject, setting)
        model = placed(subject, compute)
        run = by_torch(model, compute)
        agreement = agreement_of(subject, setting, images, run)
        step = training_step(model, compute, OptimConfig(), compiled=setting.backend == "compile")
        timing = time_step(lambda: step(images), compute.device, batches)
    return timed(subject, setting, timing, "training", agreement=agreement)


def placed(subject: Subject, compute: ComputeSettings) -> nn.Module:
    """A copy of the model on the device, in the layout; the subject itself stays as it is."""
    return compute.place(copy.deepcopy(subject.model))


def synthetic_images(subject: Subject, setting: Setting) -> torch.Tensor:
    """Normally distributed pictures, the same each time: float32 [B, C, H, W] on the device."""
    generator = torch.Generator().manual_seed(_SEED)
    images = torch.randn(setting.batch_size, *subject.preprocessing.input_size, generator=generator)
    compute = setting.compute
    return images.to(compute.device).contiguous(memory_format=compute.memory_format)


def agreement_of(
    subject: Subject, setting: Setting, images: torch.Tensor, run: Runner
) -> Agreement | None:
    """How far the setting's logits are from torch's in fp32; None for torch in fp32 itself."""
    compute = setting.compute
    set_tf32(compute.device, allowed=False)
    plain = ComputeSettings(compute.device)
    if setting.backend == "torch" and compute == plain:
        return None
    reference = by_torch(placed(subject, plain), plain)(images.contiguous())
    return agreement(reference.float().cpu().numpy(), run(images).float().cpu().numpy())


def agreement(reference: np.ndarray, logits: np.ndarray) -> Agreement:
    """Compare logits float [N, C] with those of a reference."""
    spread = float(reference.std())
    largest = float(np.abs(reference - logits).max())
    same = reference.argmax(axis=1) == logits.argmax(axis=1)
    return Agreement(
        largest_difference=largest / spread if spread > 0 else float(largest > 0),
        same_top_1=float(same.mean()),
    )


def timed(
    subject: Subject,
    setting: Setting,
    timing: Timing,
    mode: str,
    *,
    agreement: Agreement | None,
    pipeline: PipelineTimes | None = None,
) -> TimedSetting:
    """The record of a timing."""
    device = setting.compute.device
    times_s = timing.batch_times_s
    percentiles = latency_percentiles(times_s)
    speed = speed_metrics(
        times_s, [setting.batch_size] * len(times_s), str(device), total_s=timing.stream_s
    )
    per_core = speed["throughput_samples_per_sec"] / torch.get_num_threads()
    return TimedSetting(
        model_name=subject.name,
        mode=mode,
        backend=setting.backend,
        precision=setting.precision,
        channels_last=setting.compute.channels_last,
        batch_size=setting.batch_size,
        input_size=subject.preprocessing.input_size,
        parameters=count_parameters(subject.model)[1],
        macs=subject.macs,
        warmup_batches=timing.warmup_batches,
        settled=timing.settled,
        timed_batches=len(times_s),
        latency_mean_ms=float(np.mean(times_s) * 1e3),
        latency_p50_ms=percentiles["p50"],
        latency_p90_ms=percentiles["p90"],
        latency_p99_ms=percentiles["p99"],
        images_per_sec_per_core=per_core if device.type == "cpu" else None,
        drift=drift(times_s),
        block_medians_ms=block_medians_ms(times_s),
        peak_memory_mib=timing.peak_memory_mib,
        speed_metrics=speed,
        agreement=agreement,
        pipeline=pipeline,
    )


@contextlib.contextmanager
def explaining(setting: Setting) -> Iterator[None]:
    """Turn what a batch size brings about into an error that says what to do."""
    size = f"--batch-size {setting.batch_size}"
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise DeviceMemoryError(
                f"{setting.compute.device} is out of memory at {size}; try a smaller one, or auto"
            ) from error
        if is_too_few(error):
            raise ConfigError(
                f"{size}: the model's batch norm needs at least 2 pictures to train"
            ) from error
        raise
