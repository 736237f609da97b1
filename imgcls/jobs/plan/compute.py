"""Where and how a training computes: what `--amp auto` and `--channels-last auto` stand for."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import nn

from imgcls.config.optim import OptimConfig
from imgcls.config.run import TrainConfig
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import (
    amp_name,
    get_device,
    release_freed_memory,
    resolve_precision,
    set_tf32,
    synchronize,
)
from imgcls.engine.scoring.backends import by_torch
from imgcls.engine.training.probe import training_step
from imgcls.models.card import preprocessing_of

# pictures in a measured step: enough for the kernels' speed, few enough for a slow machine
_PICTURES = 8
_LONGEST_S = 8.0
_ROUNDS = 5
# a shorter training is over before the choice pays
_WORTH_S = 120.0
# what another precision or layout must win to be taken, beyond what timings scatter
_GAIN = 1.1


@dataclass(frozen=True)
class Choice:
    """How to compute, with a line of reason where it was measured."""

    compute: ComputeSettings
    reasons: tuple[str, ...] = ()

    def resolved(self) -> dict[str, dict[str, Any]]:
        """The config's own fields that this decides."""
        compute = self.compute
        return {
            "runtime": {
                "amp": amp_name(compute.precision),
                "channels_last": compute.channels_last,
            }
        }


def compute_settings(device: str, amp: str, *, channels_last: bool) -> ComputeSettings:
    """Where and how to score, for `--device`, `--amp` and `--channels-last`.

    float32 is exact from here on in this process: no TF32.
    """
    place = get_device(device)
    set_tf32(place, allowed=False)
    return ComputeSettings(place, resolve_precision(amp, place), channels_last)


def training_compute(
    config: TrainConfig,
    build: Callable[[], nn.Module],
    *,
    pictures: int,
    folds: int = 1,
    forward_passes: int | None = None,
) -> Choice:
    """How to train: on a CPU, for what is `auto`, the fastest of what was measured.

    build: makes the model; called only where there is something to measure. pictures: those of an
    epoch, in each of `folds` that are trained; a training of less than two minutes is not worth the
    measurement and keeps float32. forward_passes: where nothing but features is computed, how many
    pictures they are computed of; None where the model is trained.
    Raises DeviceError.
    """
    runtime, epochs = config.runtime, config.optim.epochs
    device = get_device(runtime.device)
    measured = device.type == "cpu"
    precisions = (
        (None, torch.bfloat16)
        if runtime.amp == "auto" and measured
        else (resolve_precision(runtime.amp, device),)
    )
    layouts = (
        ((True, False) if measured else (True,))
        if runtime.channels_last == "auto"
        else (runtime.channels_last,)
    )
    candidates = [
        ComputeSettings(device, precision, layout)
        for precision, layout in product(precisions, layouts)
    ]
    if len(candidates) == 1:
        return Choice(candidates[0])
    trained = pictures * (10 if epochs == "auto" else epochs) * folds
    in_all = trained if forward_passes is None else forward_passes
    times_s = _measure(build(), candidates, in_all, trains=forward_passes is None)
    # a model with its optimizer's state for each candidate is gone
    release_freed_memory(device)
    return _choose(times_s, candidates[0])


def _measure(
    model: nn.Module, candidates: list[ComputeSettings], pictures: int, *, trains: bool
) -> dict[ComputeSettings, float]:
    """The shortest step of each candidate, in turn; {} where all training is short."""
    input_size = preprocessing_of(model, "crop").input_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(_PICTURES, *input_size, generator=generator)
    times_s: dict[ComputeSettings, float] = {}
    steps: dict[ComputeSettings, Callable[[], float]] = {}
    end_s = time.monotonic() + _LONGEST_S
    for compute in candidates:
        steps[compute] = _timed_step(model, compute, images, trains=trains)
        steps[compute]()
        times_s[compute] = steps[compute]()
        if times_s[candidates[0]] / _PICTURES * pictures < _WORTH_S:
            return {}
    for _ in range(_ROUNDS):
        for compute, step in steps.items():
            if time.monotonic() > end_s:
                return times_s
            times_s[compute] = min(times_s[compute], step())
    return times_s


def _timed_step(
    model: nn.Module, compute: ComputeSettings, images: torch.Tensor, *, trains: bool
) -> Callable[[], float]:
    own = compute.place(copy.deepcopy(model))
    step: Callable[[torch.Tensor], object] = (
        training_step(own, compute, OptimConfig()) if trains else by_torch(own.eval(), compute)
    )
    placed = images.to(compute.device).contiguous(memory_format=compute.memory_format)

    def seconds() -> float:
        start_s = time.perf_counter()
        step(placed)
        synchronize(compute.device)
        return time.perf_counter() - start_s

    return seconds


def _choose(times_s: dict[ComputeSettings, float], default: ComputeSettings) -> Choice:
    if not times_s:
        return Choice(default)
    fastest = min(times_s, key=lambda compute: times_s[compute])
    gain = times_s[default] / times_s[fastest]
    if gain < _GAIN:
        others = ", ".join(_words(compute) for compute in times_s if compute != default)
        return Choice(default, (f"{_words(default)}: as fast as {others}, by measurement",))
    return Choice(
        fastest, (f"{_words(fastest)}: {gain:.1f}x as fast as {_words(default)}, by measurement",)
    )


def _words(compute: ComputeSettings) -> str:
    precision = amp_name(compute.precision).replace("off", "float32")
    return f"{precision} {'channels last' if compute.channels_last else 'channels first'}"
