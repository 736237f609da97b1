"""The machine: which device, which precision, which seed, and when the device is done."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import importlib.metadata
import os
import platform
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch

from imgcls.errors import DeviceError

_ONE_TRAINING = threading.RLock()
# of glibc's malloc.h; blocks of all sizes are below the threshold
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _ALL_SIZES = -1, -3, 2**31 - 1


def available_devices() -> tuple[str, ...]:
    """The devices this machine can compute on, best first, e.g. ("cuda:0", "cpu")."""
    cuda = tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    mps = ("mps",) if torch.backends.mps.is_available() else ()
    return (*cuda, *mps, "cpu")


def get_device(name: str | torch.device = "auto") -> torch.device:
    """The device of that name; `auto` takes cuda, then mps, then cpu.

    A torch.device is taken by its name. Raises DeviceError, naming the available ones, when the
    machine has no such device.
    """
    available = available_devices()
    if name == "auto":
        return torch.device(available[0])
    name = str(name)
    # there is one each of the others, with or without its number
    wanted = {"cuda": "cuda:0", "cpu:0": "cpu", "mps:0": "mps"}.get(name, name)
    if wanted not in available:
        raise DeviceError(
            f"--device {name}: not available on this machine; available: {', '.join(available)}"
        )
    return torch.device(wanted)


def device_label(device: torch.device) -> str:
    """A name a person recognises, e.g. "NVIDIA H100" or "x86_64 CPU, 2 threads"."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type == "mps":
        return "Apple GPU"
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'s' if threads != 1 else ''}"


def resolve_precision(amp: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype for `--amp`, or None for full float32.

    auto: bf16 (else fp16) on cuda, off elsewhere. Raises DeviceError for fp16 on a CPU.
    """
    if amp == "off" or (amp == "auto" and device.type != "cuda"):
        return None
    if amp == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if amp == "fp16" and device.type == "cpu":
        raise DeviceError("--amp fp16: needs a GPU; on a CPU use --amp bf16 or --amp off")
    if amp == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise DeviceError(f"--amp bf16: {device_label(device)} has no bfloat16; use --amp fp16")
    return torch.bfloat16 if amp == "bf16" else torch.float16


def amp_name(precision: torch.dtype | None) -> str:
    """The `--amp` word for a resolved precision: off, bf16 or fp16."""
    return {None: "off", torch.bfloat16: "bf16", torch.float16: "fp16"}[precision]


def autocast(device: torch.device, precision: torch.dtype | None) -> AbstractContextManager[object]:
    """A context in which the model computes in that precision; nothing changes for None."""
    if precision is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=precision)


def set_seed(seed: int) -> None:
    """Seed python's, numpy's and torch's global random states, on the CPU and every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  timm's Mixup draws from the global state
    torch.manual_seed(seed)


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed that is the same on every machine for the same parts."""
    text = "/".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def use_deterministic_kernels() -> None:
    """Ask torch for kernels that give the same bits every time; warns where it has none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def set_tf32(device: torch.device, *, allowed: bool) -> None:
    """Let a GPU round the factors of float32 products to 10 bits, or forbid it, in this process.

    Both for matrix products, which torch keeps exact by default, and for cuDNN's convolutions,
    which it does not. It is training's float32; what is called exact must forbid it.
    """
    if device.type != "cuda":
        return
    # newer torch has `fp32_precision` beside these, and refuses to read these once that is set
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


@contextlib.contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """A block without TF32 in a script's process, whose own settings hold again behind it.

    A script that chose by torch's newer `fp32_precision` keeps what it chose.
    """
    with tf32_kept() as is_known:
        if is_known:
            set_tf32(device, allowed=False)
        yield


@contextlib.contextmanager
def tf32_kept() -> Iterator[bool]:
    """A block behind which TF32 is as it was; False where torch does not let it be asked for."""
    try:
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:
        yield False
        return
    try:
        yield True
    finally:
        if before != (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32):
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]


@contextlib.contextmanager
def training_apart() -> Iterator[None]:
    """A block that trains, one at a time in a process, and leaves it as it was.

    Training seeds the process's random states in every step: two at once would draw each other's
    numbers, and a script would have the same "random" numbers behind each training. Kernels that
    are deterministic or of TF32 would be those of its own models too.
    """
    with _ONE_TRAINING, tf32_kept(), _states_kept():
        yield


@contextlib.contextmanager
def _states_kept() -> Iterator[None]:
    cuda = torch.cuda.get_rng_state_all() if _cuda_began() else None
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        elif _cuda_began():
            # as it would have begun
            torch.cuda.manual_seed_all(torch.initial_seed())
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        torch.backends.cudnn.benchmark = benchmark
        if workspace is None:
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


def _cuda_began() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def keep_freed_memory() -> None:
    """Let this process keep the memory it frees, for its next large tensors.

    glibc returns large blocks to the system at once, and every page of the next ones is faulted in
    and zeroed anew, in each step. A training step of mobilenetv3_small_100 takes 0.91x the CPU time
    without that, and a tenth more memory. It is for processes of one's own, as those of the
    commands are; other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        libc.mallopt(parameter, _ALL_SIZES)


def release_freed_memory(device: torch.device) -> None:
    """Give back what this process has freed and kept: to the system, on cuda to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    names = (
        *("imgcls", "torch", "torchvision", "timm", "numpy"),
        *("scikit-learn", "pillow", "simplejpeg"),
    )
    found = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found}


def to_host(tensor: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A function that waits for the tensor's copy on the CPU, and for no later work of its device.

    On cuda the copy is under way when this returns; elsewhere the function makes it.
    """
    if tensor.device.type != "cuda":
        return tensor.cpu
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    copy.copy_(tensor, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    # of the tensor's own device: the current one is cuda:0, whatever --device says
    copied.record(torch.cuda.current_stream(tensor.device))

    def wait() -> torch.Tensor:
        copied.synchronize()
        return copy

    return wait


def synchronize(device: torch.device) -> None:
    """Return when the device has finished all that was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
