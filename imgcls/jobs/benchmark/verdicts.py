"""Which setting is best, and how the results compare with an earlier report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls.config.files import read_json
from imgcls.errors import ConfigError
from imgcls.jobs.benchmark.subject import Subject
from imgcls.metrics.speed import speed_ratio, speed_verdict
from imgcls.results.benchmark import BestSetting, SpeedChange, TimedSetting

_KEY = (
    "model_name",
    "mode",
    "backend",
    "precision",
    "channels_last",
    "batch_size",
    "input_size",
)


def agrees(result: TimedSetting, tolerance: float) -> bool:
    """True when the outputs are those of torch in fp32, within the tolerance."""
    return result.agreement is None or result.agreement.largest_difference <= tolerance


def best_setting(
    subject: Subject, results: Sequence[TimedSetting], tolerance: float
) -> BestSetting:
    """The fastest of one model's results that agrees, beside torch in fp32 as it comes.

    results: torch in fp32 among them.
    """
    sound = [result for result in results if agrees(result, tolerance)]
    best = max(sound, key=lambda result: result.images_per_sec)
    plain = max(result.images_per_sec for result in results if result.agreement is None)
    return BestSetting(
        model_name=subject.name,
        images_per_sec=best.images_per_sec,
        speedup=best.images_per_sec / plain,
        tolerance=tolerance,
        command=_command(subject, best),
    )


def _command(subject: Subject, best: TimedSetting) -> str:
    layout = "--channels-last" if best.channels_last else "--no-channels-last"
    amp = "--amp " + best.precision.replace("fp32", "off")
    options = [f"--batch-size {best.batch_size}", amp, layout]
    if best.mode == "training":
        compiled = ["--compile"] if best.backend == "compile" else []
        return " ".join(["imgcls train --model", subject.architecture, *options, *compiled])
    name = shlex.quote(subject.name)
    if subject.checkpoint is not None and best.backend == "torch":
        return " ".join(["imgcls evaluate", name, *options])
    # onnxruntime and openvino choose their own layout
    layout_too = options if best.backend in ("torch", "compile") else options[:2]
    return " ".join(["imgcls benchmark", name, "--backend", best.backend, *layout_too])


def read_baseline(file: Path) -> Mapping[str, Any]:
    """An earlier `imgcls benchmark --json`. Raises ConfigError when it is not one."""
    try:
        document = read_json(file)
        for result in document["results"]:
            _ = [result[name] for name in (*_KEY, "block_medians_ms", "speed_metrics")]
            _ = float(result["speed_metrics"]["throughput_samples_per_sec"])
            _ = [float(time_ms) for time_ms in result["block_medians_ms"]]
        _ = document["device_name"]
    except FileNotFoundError:
        raise ConfigError(f"--baseline {file}: no such file") from None
    except OSError as error:
        raise ConfigError(f"--baseline {file}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"--baseline {file}: is not what `imgcls benchmark --json` prints"
        ) from error
    return dict(document)


def compare(results: Sequence[TimedSetting], baseline: Mapping[str, Any]) -> list[SpeedChange]:
    """Each result beside the same setting in the baseline."""
    before = {_key(result): result for result in baseline["results"]}
    return [_change(result, before.get(_key(result.to_json()))) for result in results]


def _key(result: Mapping[str, Any]) -> str:
    end_to_end = result.get("pipeline") is not None
    return json.dumps([*(result[name] for name in _KEY), end_to_end])


def _change(result: TimedSetting, before: Mapping[str, Any] | None) -> SpeedChange:
    setting = " ".join(
        [
            result.model_name,
            *(["training"] if result.mode == "training" else []),
            result.backend,
            result.precision,
            *(["channels-last"] if result.channels_last else []),
            f"batch {result.batch_size}",
        ]
    )
    if before is None:
        return SpeedChange(
            setting, None, result.images_per_sec, None, None, None, "not in the baseline"
        )
    ratio, low, high = speed_ratio(before["block_medians_ms"], result.block_medians_ms)
    return SpeedChange(
        setting=setting,
        before_images_per_sec=before["speed_metrics"]["throughput_samples_per_sec"],
        now_images_per_sec=result.images_per_sec,
        ratio=ratio,
        low=low,
        high=high,
        verdict=speed_verdict(ratio, low, high),
    )
