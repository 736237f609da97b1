"""What can run a trained model: torch, torch.compile, ONNX Runtime, OpenVINO."""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import amp_name, autocast
from imgcls.errors import DeviceError

# from normalised pictures, float32 [B, C, H, W], to logits [B, classes]
Runner = Callable[[torch.Tensor], torch.Tensor]


def by_torch(model: nn.Module, compute: ComputeSettings) -> Runner:
    """Runs a model in evaluation mode, placed by `compute`, as it is."""

    @torch.inference_mode()
    def run(images: torch.Tensor) -> torch.Tensor:
        with autocast(compute.device, compute.precision):
            logits: torch.Tensor = model(images)
        return logits

    return run


def by_compile(model: nn.Module, images: torch.Tensor, compute: ComputeSettings) -> Runner:
    """Runs a model in evaluation mode, placed by `compute`, compiled for such a batch of images.

    Raises what `require_compiler` raises.
    """
    require_compiler(compute.device)
    # by then the weights stand, and are folded into the kernels
    torch.compiler.reset()
    compiled: Any = torch.compile(model, dynamic=False, options={"freezing": True})
    run = by_torch(compiled, compute)
    with quiet():
        run(images)  # compiles
    return run


@functools.cache
def require_compiler(device: torch.device) -> None:
    """Raise DeviceError where torch.compile finds no compiler for the device, seen by trying."""
    try:
        with quiet():
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


def _by_onnxruntime(content: bytes, _compute: ComputeSettings, *, spins: bool) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: torch.from_numpy(session.run(None, {name: batch.numpy()})[0])


def _by_openvino(content: bytes, compute: ComputeSettings, *, spins: bool) -> Runner:  # noqa: ARG001
    import openvino

    compiled = openvino.compile_model(
        # its own reader of torch's graphs knows fewer operations than its reader of ONNX
        openvino.Core().read_model(content),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16" if compute.precision is torch.bfloat16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        },
    )
    return lambda batch: torch.from_numpy(compiled(batch.numpy(), share_inputs=True)[0])


@dataclass(frozen=True)
class Runtime:
    """What runs models as ONNX files.

    extra: of imgcls, which brings it and what writes the files; module: what is to be installed.
    open: makes a runner of a file's bytes, for batches of the size that it was converted for;
    spins: its threads wait for one another on their cores, which others do not need.
    """

    extra: str
    module: str
    open: Callable[..., Runner]


RUNTIMES: Mapping[str, Runtime] = MappingProxyType(
    {
        "onnxruntime": Runtime("onnx", "onnxruntime", _by_onnxruntime),
        "openvino": Runtime("openvino", "openvino", _by_openvino),
    }
)
BACKENDS = ("torch", "compile", *RUNTIMES)


def check_runtime(backend: str, compute: ComputeSettings) -> None:
    """Raise DeviceError where a backend of RUNTIMES cannot compute so."""
    if compute.device.type != "cpu":
        raise DeviceError(f"--backend {backend}: runs on a CPU here; add --device cpu")
    if backend == "onnxruntime" and compute.precision is not None:
        asked = amp_name(compute.precision)
        raise DeviceError(f"--backend onnxruntime: computes in fp32 on a CPU, not in {asked}")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Exporters and compilers print and warn about their own insides."""
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
