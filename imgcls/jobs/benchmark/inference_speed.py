"""The speed of a model that a script has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, overload

import torch
from torch import nn

from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import exact_float32, get_device
from imgcls.engine.device.timing import seconds, time_step, warm_up
from imgcls.engine.scoring.backends import by_torch
from imgcls.engine.scoring.loaders import dtype_of, loaded_batches
from imgcls.errors import ConfigError
from imgcls.metrics.speed import speed_metrics


@overload
def benchmark_inference_speed(
    model: nn.Module,
    dataloader: Iterable[Any],
    device: str | torch.device = "auto",
    num_samples: int = 1000,
) -> dict[str, Any]: ...


@overload
def benchmark_inference_speed(
    model: nn.Module,
    input_size: tuple[int, int, int],
    *,
    batch_size: int = 1,
    num_samples: int = 64,
    device: str | torch.device = "auto",
) -> dict[str, Any]: ...


def benchmark_inference_speed(*arguments: Any, **named: Any) -> Any:
    """The eight `speed_metrics` of a model, over a DataLoader's batches or synthetic ones.

    benchmark_inference_speed(model, dataloader, device="auto", num_samples=1000) times the model
    alone, not the loading, over the loader's batches of (images, targets), until there are
    num_samples pictures or no more. Raises DataError for batches of another kind.

    benchmark_inference_speed(model, (channels, height, width), *, batch_size=1, num_samples=64,
    device="auto") times it over synthetic pictures.

    Both warm up first. The model is moved to the device and stays in evaluation mode.
    """
    second = named.get("input_size", arguments[1] if len(arguments) > 1 else None)
    if isinstance(second, (tuple, list)) and all(isinstance(side, int) for side in second):
        return _of_synthetic(*arguments, **named)
    return _of_loader(*arguments, **named)


def _of_loader(
    model: nn.Module,
    dataloader: Iterable[Any],
    device: str | torch.device = "auto",
    num_samples: int = 1000,
) -> dict[str, Any]:
    compute = _compute(device, num_samples)
    run = by_torch(model.eval().to(compute.device), compute)
    times_s: list[float] = []
    sizes: list[int] = []
    for images in _batches(dataloader, dtype_of(model), num_samples):
        step = partial(run, images.to(compute.device))
        with exact_float32(compute.device):
            if not sizes:
                warm_up(step, compute.device)
            elif len(images) not in sizes:
                seconds(step, compute.device)  # another size may take other kernels
            times_s.append(seconds(step, compute.device))
        sizes.append(len(images))
    return speed_metrics(times_s, sizes, str(compute.device))


def _of_synthetic(
    model: nn.Module,
    input_size: tuple[int, int, int],
    *,
    batch_size: int = 1,
    num_samples: int = 64,
    device: str | torch.device = "auto",
) -> dict[str, Any]:
    compute = _compute(device, num_samples)
    images = torch.randn(batch_size, *input_size, device=compute.device)
    run = by_torch(compute.place(model.eval()), compute)
    with exact_float32(compute.device):
        timing = time_step(lambda: run(images), compute.device, -(-num_samples // batch_size))
    times_s = timing.batch_times_s
    return speed_metrics(
        times_s, [batch_size] * len(times_s), str(compute.device), total_s=timing.stream_s
    )


def _compute(device: str | torch.device, num_samples: int) -> ComputeSettings:
    if num_samples < 1:
        raise ConfigError(f"num_samples is {num_samples}; at least one picture must be timed")
    return ComputeSettings(get_device(device))


def _batches(
    dataloader: Iterable[Any], dtype: torch.dtype, num_samples: int
) -> Iterator[torch.Tensor]:
    """The pictures of the loader's batches, num_samples at most."""
    left = num_samples
    for batch in loaded_batches(dataloader, dtype):
        yield batch.images[:left]
        left -= len(batch.images)
        if left <= 0:
            return
