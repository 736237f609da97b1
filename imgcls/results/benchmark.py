"""What a benchmark measured, as records for the screen, the JSON and the Python API."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from imgcls.results.record import Record


@dataclass(frozen=True)
class Agreement(Record):
    """How far a setting's logits are from those of torch in float32, for the same pictures.

    largest_difference: in standard deviations of the reference's logits. same_top_1: share of the
    pictures whose highest logit is the same class.
    """

    largest_difference: float
    same_top_1: float


@dataclass(frozen=True)
class PipelineTimes(Record):
    """Where the time goes from file to logits.

    *_ms: a picture's, decode and transform on one core, copy and compute as the loop sees them.
    idle_share: of the time, spent waiting for pictures. bottleneck: decode, transform, copy or
    compute; advice: what to change.
    """

    pictures: int
    workers: int
    decode_ms: float
    transform_ms: float
    copy_ms: float
    compute_ms: float
    idle_share: float
    bottleneck: str
    advice: str


@dataclass(frozen=True)
class TimedSetting(Record):
    """One model timed in one setting.

    Latencies are per batch in ms, memory in MiB, macs of one picture's forward pass. mode:
    inference or training. drift: the last third's median time over the first third's, less one.
    block_medians_ms: of consecutive tenths of the batches, for comparisons.
    """

    model_name: str
    mode: str
    backend: str
    precision: str
    channels_last: bool
    batch_size: int
    input_size: tuple[int, int, int]
    parameters: int
    macs: int | None
    warmup_batches: int
    settled: bool
    timed_batches: int
    latency_mean_ms: float
    latency_p50_ms: float
    latency_p90_ms: float
    latency_p99_ms: float
    images_per_sec_per_core: float | None
    drift: float
    block_medians_ms: tuple[float, ...]
    peak_memory_mib: float | None
    speed_metrics: dict[str, Any]
    agreement: Agreement | None = None
    pipeline: PipelineTimes | None = None

    @property
    def images_per_sec(self) -> float:
        """Throughput: pictures over total time."""
        return float(self.speed_metrics["throughput_samples_per_sec"])


@dataclass(frozen=True)
class SkippedSetting(Record):
    """A setting that could not be timed, and why."""

    model_name: str
    backend: str
    precision: str
    channels_last: bool
    batch_size: int | None
    reason: str


@dataclass(frozen=True)
class BestSetting(Record):
    """The fastest setting of a model that agrees with torch in float32, and what to type."""

    model_name: str
    images_per_sec: float
    speedup: float
    tolerance: float
    command: str


@dataclass(frozen=True)
class SpeedChange(Record):
    """A setting's throughput beside an earlier one's: is the difference more than noise?

    ratio: now over before; low and high: its 95% interval. verdict: faster, slower, within the
    noise, or not in the baseline.
    """

    setting: str
    before_images_per_sec: float | None
    now_images_per_sec: float
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class BenchmarkReport(Record):
    """All that one benchmark measured, on one machine."""

    device: str
    device_name: str
    threads: int
    results: tuple[TimedSetting, ...]
    skipped: tuple[SkippedSetting, ...] = ()
    best: tuple[BestSetting, ...] = ()
    changes: tuple[SpeedChange, ...] = ()
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
