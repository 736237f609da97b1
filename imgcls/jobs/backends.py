"""A model and what runs it: itself, or converted for another runtime."""

from __future__ import annotations

import importlib.util

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
from imgcls.errors import ConfigError, DeviceError, reason_of
from imgcls.models.export.onnx import WRITERS, to_onnx


def check_backend(backend: str, compute: ComputeSettings) -> None:
    """Raise ConfigError when a backend's extra is missing, DeviceError where it cannot compute."""
    if backend == "compile":
        require_compiler(compute.device)
    if backend not in RUNTIMES:
        return
    runtime = RUNTIMES[backend]
    modules = (runtime.module, *WRITERS)
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"--backend {backend}: {missing[0]} is not installed; pip install "
            f'"imgcls[{runtime.extra}]"'
        )
    check_runtime(backend, compute)


class Backends:
    """A model's runners, converted once for all backends that take ONNX files.

    model: in evaluation mode, placed by `compute`. images: a batch of the size that will be run,
    normalised float32 [B, C, H, W]. shares_cores: loaders work beside it, so that threads sleep
    while they wait.
    """

    def __init__(
        self,
        model: nn.Module,
        images: torch.Tensor,
        compute: ComputeSettings,
        *,
        shares_cores: bool = False,
    ) -> None:
        self._model = model
        self._images = images
        self._compute = compute
        self._spins = not shares_cores
        self._converted: bytes | None = None

    def runner(self, backend: str) -> Runner:
        """A function from such batches to logits [B, classes].

        Raises what `check_backend` raises, and DeviceError when the backend cannot take the model.
        """
        check_backend(backend, self._compute)
        if backend == "torch":
            return by_torch(self._model, self._compute)
        if backend == "compile":
            return by_compile(self._model, self._images, self._compute)
        runtime = RUNTIMES[backend]
        try:
            with quiet():
                if self._converted is None:
                    self._converted = to_onnx(self._model, self._images)
                return runtime.open(self._converted, self._compute, spins=self._spins)
        except Exception as error:
            # every exporter raises errors of its own
            reason = reason_of(error)
            raise DeviceError(f"--backend {backend}: cannot take this model ({reason})") from error


def make_runner(
    backend: str, model: nn.Module, images: torch.Tensor, compute: ComputeSettings
) -> Runner:
    """The runner of one backend that has the machine to itself; see Backends."""
    return Backends(model, images, compute).runner(backend)


class RunModel(nn.Module):
    """A model as a runner for batches of one size has it, for batches up to that size."""

    def __init__(self, run: Runner, batch_size: int, memory_format: torch.memory_format) -> None:
        super().__init__()
        self._run = run
        self._batch_size = batch_size
        self._memory_format = memory_format

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits [B, classes] of float32 [B, C, H, W]; those of padding are left out."""
        lacking = self._batch_size - len(images)
        if lacking:
            images = torch.cat([images, images.new_zeros((lacking, *images.shape[1:]))])
        return self._run(images.contiguous(memory_format=self._memory_format))[: -lacking or None]
