"""Time models in all the settings that were asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from imgcls.config.benchmark import BenchmarkConfig
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import device_label, get_device, set_tf32, versions
from imgcls.errors import DeviceMemoryError, RequestError, RunFailedError
from imgcls.jobs.benchmark.pipeline import time_pipeline
from imgcls.jobs.benchmark.settings import asked_ways, find_batch_size
from imgcls.jobs.benchmark.single import time_setting, time_training
from imgcls.jobs.benchmark.subject import Setting, Subject, open_subject
from imgcls.jobs.benchmark.verdicts import agrees, best_setting, compare, read_baseline
from imgcls.results.benchmark import BenchmarkReport, BestSetting, SkippedSetting, TimedSetting

_TOLERANCE, _TRAINING_TOLERANCE = 0.01, 0.2
_DRIFT = 0.1


def benchmark(
    config: BenchmarkConfig, on_setting: Callable[[int, int], None] = lambda _done, _total: None
) -> BenchmarkReport:
    """Latency, throughput, memory and agreement of models in all the settings asked for.

    on_setting is told (settings done, settings in all). A setting that cannot be timed is reported
    as skipped; where it is the only one its error is raised. Raises DeviceError for a device or
    precision that is not there, ConfigError for a missing extra and a bad baseline, ModelError and
    CheckpointError for what cannot be built.
    """
    device = get_device(config.device)
    set_tf32(device, allowed=False)
    baseline = None if config.baseline is None else read_baseline(config.baseline)
    ways, problems = asked_ways(config, device)
    subjects = [open_subject(name, config.img_size) for name in config.models]
    notes = [f"left out: {problem}" for problem in problems]
    if config.find_best and any(subject.checkpoint is None for subject in subjects):
        notes.append("outputs are compared with random weights; name a checkpoint for its own")
    work: list[tuple[Subject, Setting]] = []
    for subject in subjects:
        sizes: dict[ComputeSettings, tuple[int, ...]] = {}
        for backend, compute in ways:
            if compute not in sizes and config.batch_size == "auto":
                largest, reason = find_batch_size(subject, compute, train=config.train)
                notes.append(f"{subject.name}: {largest} is the largest batch; {reason}")
                sizes[compute] = (largest,)
            own = sizes[compute] if config.batch_size == "auto" else config.batch_size
            work += [(subject, Setting(backend, compute, size)) for size in own]
    results, skipped = _time_all(config, work, on_setting)
    notes += _doubts(results, config)
    changes = () if baseline is None else tuple(compare(results, baseline))
    if baseline is not None and baseline["device_name"] != device_label(device):
        notes.append(f"the baseline was made on another machine: {baseline['device_name']}")
    return BenchmarkReport(
        device=str(device),
        device_name=device_label(device),
        threads=torch.get_num_threads(),
        results=tuple(results),
        skipped=tuple(skipped),
        best=_best(config, subjects, results) if config.find_best else (),
        changes=changes,
        notes=tuple(notes),
        versions=versions(),
    )


def _time_all(
    config: BenchmarkConfig,
    work: Sequence[tuple[Subject, Setting]],
    on_setting: Callable[[int, int], None],
) -> tuple[list[TimedSetting], list[SkippedSetting]]:
    results: list[TimedSetting] = []
    skipped: list[SkippedSetting] = []
    for done, (subject, setting) in enumerate(work):
        on_setting(done, len(work))
        try:
            results.append(_time(config, subject, setting))
        except (RequestError, DeviceMemoryError) as error:
            if len(work) == 1:
                raise
            skipped.append(
                SkippedSetting(
                    model_name=subject.name,
                    backend=setting.backend,
                    precision=setting.precision,
                    channels_last=setting.compute.channels_last,
                    batch_size=setting.batch_size,
                    reason=str(error),
                )
            )
    on_setting(len(work), len(work))
    if not results:
        raise RunFailedError(f"nothing could be timed: {skipped[0].reason}")
    return results, skipped


def _best(
    config: BenchmarkConfig, subjects: Sequence[Subject], results: Sequence[TimedSetting]
) -> tuple[BestSetting, ...]:
    own = {s.name: [r for r in results if r.model_name == s.name] for s in subjects}
    return tuple(
        best_setting(subject, own[subject.name], _tolerance(config))
        for subject in subjects
        # without torch in fp32, which was skipped then, nothing is known of the others' outputs
        if any(result.agreement is None for result in own[subject.name])
    )


def _time(config: BenchmarkConfig, subject: Subject, setting: Setting) -> TimedSetting:
    batches = None if config.num_samples == "auto" else -(-config.num_samples // setting.batch_size)
    if config.data is not None:
        return time_pipeline(subject, setting, config, batches)
    return (time_training if config.train else time_setting)(subject, setting, batches)


def _tolerance(config: BenchmarkConfig) -> float:
    if config.tolerance == "auto":
        return _TRAINING_TOLERANCE if config.train else _TOLERANCE
    return config.tolerance


def _doubts(results: Sequence[TimedSetting], config: BenchmarkConfig) -> Iterator[str]:
    """What should make a reader doubt the figures."""
    if drifted := [result for result in results if abs(result.drift) > _DRIFT]:
        worst = max(drifted, key=lambda result: abs(result.drift))
        how = "slower" if worst.drift > 0 else "faster"
        yield (
            f"{_count(drifted, results)} drifted: the last third of {_name(worst)} was "
            f"{abs(worst.drift):.0%} {how} than the first; the machine is hot or shared, time again"
        )
    if restless := [result for result in results if not result.settled]:
        yield f"{_count(restless, results)} had not settled when timing began"
    tolerance = _tolerance(config)
    if apart := [result for result in results if not agrees(result, tolerance)]:
        yield (
            f"{_count(apart, results)} differ from torch in fp32 by more than {tolerance:g} "
            "standard deviations of the logits"
        )


def _count(some: Sequence[TimedSetting], everything: Sequence[TimedSetting]) -> str:
    settings = "setting" if len(everything) == 1 else "settings"
    return f"{len(some)} of {len(everything)} {settings}"


def _name(result: TimedSetting) -> str:
    return f"{result.model_name} ({result.backend} {result.precision}, batch {result.batch_size})"
