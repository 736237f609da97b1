"""A model and what runs it: itself, or converted for another runtime."""

from __future__ import annotations

import torch
from torch import nn

from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.scoring.backends import (
    RUNTIMES,
    Runner,
    by_compile,
    by_torch,
    check_runtime,
    quiet,
    require_compiler,
)
from imgcls.errors import DeviceError
from imgcls.models.export.formats import FORMATS, require_format


def check_backend(backend: str, compute: ComputeSettings) -> None:
    """Raise ConfigError when a backend's extra is missing, DeviceError where it cannot compute."""
    if backend == "compile":
        require_compiler(compute.device)
    if backend in RUNTIMES:
        runtime = RUNTIMES[backend]
        require_format(runtime.format, f"--backend {backend}", runtime.module)
        check_runtime(backend, compute)


def make_runner(
    backend: str, model: nn.Module, images: torch.Tensor, compute: ComputeSettings
) -> Runner:
    """A function from normalised pictures, float32 [B, C, H, W], to logits [B, classes].

    model: in evaluation mode, placed by `compute`; images: a batch of the size that will be run.
    Raises what `check_backend` raises, and DeviceError when the backend cannot take the model.
    """
    check_backend(backend, compute)
    if backend == "torch":
        return by_torch(model, compute)
    if backend == "compile":
        return by_compile(model, images, compute)
    runtime = RUNTIMES[backend]
    try:
        with quiet():
            return runtime.open(FORMATS[runtime.format].convert(model, images), compute)
    except Exception as error:
        # every exporter raises errors of its own
        reason = " ".join(str(error).split())[:160]
        raise DeviceError(f"--backend {backend}: cannot take this model ({reason})") from error
