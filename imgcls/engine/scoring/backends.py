"""What can run a trained model: torch, torch.compile, ONNX Runtime, OpenVINO."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import amp_name, autocast
from imgcls.errors import ConfigError, DeviceError

Runner = Callable[[torch.Tensor], torch.Tensor]

BACKENDS = ("torch", "compile", "onnxruntime", "openvino")
_EXTRAS = {
    "onnxruntime": ("onnx", ("onnxruntime", "onnx", "onnxscript")),
    "openvino": ("openvino", ("openvino", "onnx", "onnxscript")),
}


def check_backend(backend: str, compute: ComputeSettings) -> None:
    """Raise ConfigError when a backend's extra is missing, DeviceError where it cannot compute."""
    if backend == "compile":
        require_compiler(compute.device)
    if backend not in _EXTRAS:
        return
    extra, modules = _EXTRAS[backend]
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f'--backend {backend}: {missing[0]} is not installed; pip install "imgcls[{extra}]"'
        )
    if compute.device.type != "cpu":
        raise DeviceError(f"--backend {backend}: runs on a CPU here; add --device cpu")
    if backend == "onnxruntime" and compute.precision is not None:
        asked = amp_name(compute.precision)
        raise DeviceError(f"--backend onnxruntime: computes in fp32 on a CPU, not in {asked}")


@functools.cache
def require_compiler(device: torch.device) -> None:
    """Raise DeviceError where torch.compile finds no compiler for the device, seen by trying."""
    try:
        with _quiet():
            torch.compile(torch.neg)(torch.ones(2, device=device))
    except Exception as error:
        # the compiler's name is missing, or headers, or triton: torch says which
        reason = str(error).partition("\n")[0][:200]
        needed = "a C++ compiler (g++, clang or MSVC)" if device.type != "cuda" else "triton"
        raise DeviceError(
            f"--compile: torch.compile does not work on this machine ({reason}); it needs "
            f"{needed}; install one, or leave --compile away"
        ) from error
    finally:
        torch.compiler.reset()


def make_runner(
    backend: str, model: nn.Module, images: torch.Tensor, compute: ComputeSettings
) -> Runner:
    """A function from normalised pictures, float32 [B, C, H, W], to logits [B, classes].

    model: in evaluation mode, placed by `compute`; images: a batch of the size that will be run.
    Raises what `check_backend` raises, and DeviceError when the backend cannot take the model.
    """
    check_backend(backend, compute)
    if backend == "torch":
        return _by_torch(model, compute)
    if backend == "compile":
        # by then the weights stand, and are folded into the kernels
        torch.compiler.reset()
        compiled: Any = torch.compile(model, dynamic=False, options={"freezing": True})
        run = _by_torch(compiled, compute)
        with _quiet():
            run(images)  # compiles
        return run
    build = _by_onnxruntime if backend == "onnxruntime" else _by_openvino
    try:
        with _quiet():
            return build(model, images, compute)
    except Exception as error:
        # every exporter raises errors of its own
        reason = " ".join(str(error).split())[:160]
        raise DeviceError(f"--backend {backend}: cannot take this model ({reason})") from error


def _by_torch(model: nn.Module, compute: ComputeSettings) -> Runner:
    @torch.inference_mode()
    def run(images: torch.Tensor) -> torch.Tensor:
        with autocast(compute.device, compute.precision):
            logits: torch.Tensor = model(images)
        return logits

    return run


def _by_onnxruntime(model: nn.Module, images: torch.Tensor, _compute: ComputeSettings) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        _onnx(model, images), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda batch: torch.from_numpy(session.run(None, {name: batch.numpy()})[0])


def _by_openvino(model: nn.Module, images: torch.Tensor, compute: ComputeSettings) -> Runner:
    import openvino

    # its own reader of torch's graphs knows fewer operations than its reader of ONNX
    network = openvino.compile_model(
        openvino.Core().read_model(_onnx(model, images)),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16" if compute.precision is torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    return lambda batch: torch.from_numpy(network(batch.numpy(), share_inputs=True)[0])


def _onnx(model: nn.Module, images: torch.Tensor) -> bytes:
    """The model for batches of exactly this size."""
    program: Any = torch.onnx.export(model, (images,), dynamo=True, verbose=False)
    content: bytes = program.model_proto.SerializeToString()
    return content


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters print and warn about their own insides."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
