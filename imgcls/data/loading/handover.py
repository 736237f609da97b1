"""Batches from loader processes through shared memory that is used again.

torch makes new shared memory for each batch, whose every page is then faulted in on both sides.
Where shared memory has no space, as in containers, whose /dev/shm is 64 MB unless they are told
otherwise, a batch comes through the pipe between the processes, which copies it twice more.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

# those that a process has made ahead, one on its way, one in hand
_BUFFERS = 4
_FREE, _TAKEN = 0, 1
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  asked for its size only


class SharedMemoryWarning(UserWarning):
    """Batches are slower than they might be, for want of shared memory."""


class SharedBuffers:
    """The shared memory of one loader process: buffers for a batch each.

    A buffer's last byte says whether the batch in it is still wanted; the reader frees it.
    """

    def __init__(self) -> None:
        self._buffers: list[torch.Tensor] = []

    def take(self, size_bytes: int) -> torch.Tensor | None:
        """A buffer of at least that many bytes, uint8 [bytes + 1]; None when none is free.

        Raises RuntimeError where there is no space for a new one.
        """
        for buffer in self._buffers:
            if buffer[-1] == _FREE and len(buffer) > size_bytes:
                buffer[-1] = _TAKEN
                return buffer
        if len(self._buffers) == _BUFFERS:
            return None
        buffer = torch.zeros(size_bytes + 1, dtype=torch.uint8)
        buffer.share_memory_()  # type: ignore[no-untyped-call]
        buffer[-1] = _TAKEN
        self._buffers.append(buffer)
        return buffer


class Sender:
    """Stacks pictures in a loader process, ready to be sent.

    reuse: in memory that is used again; else in new memory each time.
    """

    def __init__(self, *, reuse: bool) -> None:
        self._buffers = SharedBuffers() if reuse else None

    def stack(self, images: Sequence[torch.Tensor]) -> tuple[torch.Tensor | np.ndarray, bool]:
        """(uint8 [B, H, W, C] of as many [H, W, C], whether a buffer has it).

        A tensor lies in shared memory. An array comes where shared memory has no space, and is sent
        through the pipe.
        """
        shape = (len(images), *images[0].shape)
        try:
            buffer = self._buffers.take(math.prod(shape)) if self._buffers is not None else None
            if buffer is None:
                return torch.stack(list(images)).share_memory_(), False  # type: ignore[no-untyped-call]
            return torch.stack(list(images), out=buffer[: math.prod(shape)].view(shape)), True
        except RuntimeError as error:
            if not is_shared_memory_full(error):
                raise
            return torch.stack(list(images)).numpy(), False


def is_shared_memory_full(error: RuntimeError) -> bool:
    """True where torch found no space in shared memory, for which it has no error of its own."""
    return "shared memory" in str(error)


class Reader:
    """Receives batches from loader processes and frees their buffers."""

    def __init__(self) -> None:
        # while they are held, the same memory that comes again is not mapped anew
        self._buffers: dict[int, torch.Tensor] = {}
        self._warned = False

    def own(self, images: torch.Tensor | np.ndarray, *, in_buffer: bool) -> torch.Tensor:
        """The pictures in memory of one's own; their buffer is free for other batches."""
        if isinstance(images, np.ndarray):
            if not self._warned:
                self._warned = True
                warnings.warn(_too_small(images.nbytes), SharedMemoryWarning, stacklevel=2)
            return torch.from_numpy(images)
        if not in_buffer:
            return images
        buffer = torch.empty(0, dtype=torch.uint8).set_(images.untyped_storage())
        self._buffers[buffer.data_ptr()] = buffer
        copied = images.clone()
        buffer[-1] = _FREE
        return copied


def _too_small(batch_bytes: int) -> str:
    size = ""
    if hasattr(os, "statvfs") and _SHARED_MEMORY.is_dir():
        found = os.statvfs(_SHARED_MEMORY)
        size = f" of {found.f_blocks * found.f_frsize / 2**20:.0f} MiB"
    return (
        f"shared memory ({_SHARED_MEMORY}{size}) has no space for batches of "
        f"{batch_bytes / 2**20:.1f} MiB: loader processes send them through pipes, which is "
        "slower; give it more (docker run --shm-size=2g), or take --workers 0"
    )
