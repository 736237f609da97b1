"""From files to logits, or to an update: how fast all of it is, and which stage limits it."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from imgcls.config.augment import AugmentConfig
from imgcls.config.benchmark import BenchmarkConfig
from imgcls.config.optim import OptimConfig
from imgcls.config.reading import ReadingConfig
from imgcls.data.loading.dataset import Batch
from imgcls.data.loading.loader import EvalLoader, TrainLoader, resolve_workers
from imgcls.data.loading.workers import available_cores
from imgcls.data.open import checkpoint_decoding, open_source
from imgcls.data.pixels.augmentation import augmentation
from imgcls.data.pixels.decode import DecodeSettings, UnreadableImageError
from imgcls.data.pixels.transforms import Transform, eval_transform, train_transform
from imgcls.data.table import SampleTable
from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.engine.device.batches import Normalizer
from imgcls.engine.device.runtime import synchronize
from imgcls.engine.device.timing import Timing, peak_memory_mib, reset_peak_memory
from imgcls.engine.scoring.backends import by_torch
from imgcls.engine.training.probe import training_step
from imgcls.errors import ConfigError, DataError
from imgcls.jobs.backends import make_runner
from imgcls.jobs.benchmark.single import (
    agreement_of,
    explaining,
    placed,
    synthetic_images,
    timed,
)
from imgcls.jobs.benchmark.subject import Setting, Subject
from imgcls.jobs.checkpoint_config import OF_PIXELS, checkpoint_config
from imgcls.results.benchmark import Agreement, PipelineTimes, TimedSetting

_SAMPLED_PICTURES = 48
_WARMUP_BATCHES, _LEAST_BATCHES = 3, 10
_TIMED_S = 6.0
_IDLE_SHARE, _IDLE_SHARE_IN_TURNS = 0.1, 0.5


@dataclass(frozen=True)
class Lap:
    """One turn of the loop, in seconds: waiting for pictures, moving them, computing."""

    pictures: int
    wait_s: float
    copy_s: float
    compute_s: float

    @property
    def total_s(self) -> float:
        """The whole turn."""
        return self.wait_s + self.copy_s + self.compute_s


@dataclass(frozen=True)
class _Flow:
    """A loop that is ready to run: what it draws from and what it does with each batch."""

    transform: Transform
    workers: int
    batches: Iterator[Batch]
    copy: Callable[[Batch], torch.Tensor]
    compute: Callable[[torch.Tensor], object]
    agreement: Agreement | None


def time_pipeline(
    subject: Subject, setting: Setting, config: BenchmarkConfig, batches: int | None
) -> TimedSetting:
    """The whole way for `--data`, with the costs of its stages.

    Raises DataError for data that cannot be used and BadImageError for a picture that cannot.
    """
    assert config.data is not None
    device = setting.compute.device
    reset_peak_memory(device)
    table = _table(config.data, subject)
    with explaining(setting):
        flow = (_training if config.train else _inference)(table, subject, setting, config)
        laps = _laps(flow, device, batches)
    loading_ms = stage_costs_ms(table, flow.transform)
    timing = Timing(
        warmup_batches=_WARMUP_BATCHES,
        settled=True,
        batch_times_s=tuple(lap.total_s for lap in laps),
        stream_s=None,
        peak_memory_mib=peak_memory_mib(device),
    )
    times = _pipeline_times(laps, flow.workers, loading_ms, device.type)
    mode = "training" if config.train else "inference"
    return timed(subject, setting, timing, mode, agreement=flow.agreement, pipeline=times)


def _table(data: str, subject: Subject) -> SampleTable:
    """The pictures, decoded as a checkpoint's training pictures were."""
    if subject.checkpoint is None:
        return open_source(
            data, decoding=DecodeSettings(channels=subject.preprocessing.input_size[0])
        )
    trained = checkpoint_config(read_checkpoint(subject.checkpoint))
    pixels = {name: getattr(trained.reading, name) for name in OF_PIXELS}
    return open_source(data, ReadingConfig(**pixels), checkpoint_decoding(trained))


def stage_costs_ms(table: SampleTable, transform: Transform) -> tuple[float, float]:
    """(reading and decoding, transforming): median ms a picture, of some, on one core.

    Only the part of a picture that the transform wants is decoded, as in the loaders.
    """
    decode_s, transform_s = [], []
    for row in np.linspace(0, len(table) - 1, min(len(table), _SAMPLED_PICTURES)).astype(int):
        start_s = time.perf_counter()
        try:
            picture = table.images.open_crop(int(row), transform.choose)
        except UnreadableImageError as error:
            raise DataError(
                f"{table.images.location(int(row))}: cannot be read ({error})"
            ) from error
        decoded_s = time.perf_counter()
        transform.finish(picture)
        decode_s.append(decoded_s - start_s)
        transform_s.append(time.perf_counter() - decoded_s)
    return statistics.median(decode_s) * 1e3, statistics.median(transform_s) * 1e3


def bottleneck(
    *, decode_ms: float, transform_ms: float, copy_ms: float, compute_ms: float,
    workers: int, idle_share: float, device_type: str,
) -> tuple[str, str]:  # fmt: skip
    """(the stage that limits, what to change).

    Loading limits when the loop waits for it. Where processes load beside a GPU, a tenth of the
    time is enough to say so; on a CPU, or without processes, loading and the model share the cores
    or take turns, and what takes more than half of the time limits.
    """
    beside = workers > 0 and device_type != "cpu"
    waits = idle_share > (_IDLE_SHARE if beside else _IDLE_SHARE_IN_TURNS)
    stages = (
        {"decode": decode_ms, "transform": transform_ms}
        if waits
        else {"copy": copy_ms, "compute": compute_ms}
    )
    stage = max(stages, key=lambda name: stages[name])
    processes = (
        "let processes load them: --workers 1 or more"
        if not workers
        else f"more --workers ({workers} now, {available_cores()} cores)"
    )
    advice = {
        "decode": f"{processes}, or smaller copies of the pictures",
        "transform": f"{processes}, a smaller --img-size, or lighter augmentation",
        "copy": "a larger --batch-size, or the other memory layout",
        "compute": "--find-best looks for a faster setting; else a smaller model or --img-size",
    }
    return stage, advice[stage]


def _inference(
    table: SampleTable, subject: Subject, setting: Setting, config: BenchmarkConfig
) -> _Flow:
    compute, whole = setting.compute, _whole_batches(table, setting)
    images = synthetic_images(subject, setting)
    run = make_runner(setting.backend, placed(subject, compute), images, compute)
    transform = eval_transform(subject.preprocessing)
    workers = _workers(table, setting, config)
    loader = EvalLoader(
        table,
        np.arange(whole),
        transform,
        batch_size=setting.batch_size,
        workers=workers,
        device_type=compute.device.type,
    )
    return _Flow(
        transform,
        workers,
        itertools.chain.from_iterable(itertools.repeat(loader)),
        Normalizer(subject.preprocessing.mean, subject.preprocessing.std, compute).images,
        run,
        agreement_of(subject, setting, images, run),
    )


def _training(
    table: SampleTable, subject: Subject, setting: Setting, config: BenchmarkConfig
) -> _Flow:
    compute, whole = setting.compute, _whole_batches(table, setting)
    images = synthetic_images(subject, setting)
    model = placed(subject, compute)
    agreement = agreement_of(subject, setting, images, by_torch(model, compute))
    augment = augmentation(AugmentConfig(), table.defaults, len(table), head_only=False)
    transform = train_transform(subject.preprocessing, augment)
    workers = _workers(table, setting, config)
    loader = TrainLoader(
        table,
        np.arange(whole),
        transform,
        batch_size=setting.batch_size,
        grad_accum=1,
        seed=0,
        workers=workers,
        device_type=compute.device.type,
        even_batches=False,
    )
    return _Flow(
        transform,
        workers,
        (batch for epoch in itertools.count() for [batch] in loader.steps(epoch)),
        Normalizer(subject.preprocessing.mean, subject.preprocessing.std, compute).images,
        training_step(model, compute, OptimConfig(), compiled=setting.backend == "compile"),
        agreement,
    )


def _whole_batches(table: SampleTable, setting: Setting) -> int:
    """Pictures in whole batches, since an exported model takes one batch size only."""
    whole = len(table) // setting.batch_size * setting.batch_size
    if not whole:
        raise ConfigError(
            f"--batch-size {setting.batch_size}: is more than the {len(table)} pictures of "
            f"{table.name}"
        )
    return whole


def _workers(table: SampleTable, setting: Setting, config: BenchmarkConfig) -> int:
    return resolve_workers(
        config.workers,
        in_memory=table.defaults.in_memory,
        device_type=setting.compute.device.type,
    )


def _laps(flow: _Flow, device: torch.device, batches: int | None) -> list[Lap]:
    for batch in itertools.islice(flow.batches, _WARMUP_BATCHES):
        flow.compute(flow.copy(batch))
    synchronize(device)
    laps: list[Lap] = []
    start_s = time.perf_counter()
    while len(laps) < (batches or _LEAST_BATCHES) or (
        batches is None and time.perf_counter() - start_s < _TIMED_S
    ):
        marks_s = [time.perf_counter()]
        batch = next(flow.batches)
        marks_s.append(time.perf_counter())
        images = flow.copy(batch)
        synchronize(device)
        marks_s.append(time.perf_counter())
        flow.compute(images)
        synchronize(device)
        marks_s.append(time.perf_counter())
        wait_s, copy_s, compute_s = (end - begin for begin, end in itertools.pairwise(marks_s))
        laps.append(Lap(len(batch.labels), wait_s, copy_s, compute_s))
    return laps


def _pipeline_times(
    laps: Sequence[Lap], workers: int, loading_ms: tuple[float, float], device_type: str
) -> PipelineTimes:
    decode_ms, transform_ms = loading_ms
    pictures, total_s = sum(lap.pictures for lap in laps), sum(lap.total_s for lap in laps)
    copy_ms = sum(lap.copy_s for lap in laps) / pictures * 1e3
    compute_ms = sum(lap.compute_s for lap in laps) / pictures * 1e3
    idle_share = sum(lap.wait_s for lap in laps) / total_s
    stage, advice = bottleneck(
        decode_ms=decode_ms,
        transform_ms=transform_ms,
        copy_ms=copy_ms,
        compute_ms=compute_ms,
        workers=workers,
        idle_share=idle_share,
        device_type=device_type,
    )
    return PipelineTimes(
        pictures=pictures,
        workers=workers,
        decode_ms=decode_ms,
        transform_ms=transform_ms,
        copy_ms=copy_ms,
        compute_ms=compute_ms,
        idle_share=idle_share,
        bottleneck=stage,
        advice=advice,
    )
