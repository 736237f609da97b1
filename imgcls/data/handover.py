"""How batches come from loader processes: in shared memory that is used again.

torch makes new shared memory for each batch, whose every page is then faulted in on both sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

# those that a process has made ahead, one on its way, one in hand
_ROOMS = 4
_FREE, _TAKEN = 0, 1


class SharedRooms:
    """The shared memory of one loader process: rooms for a batch each.

    A room's last byte says whether the batch in it is still wanted; the reader frees it.
    """

    def __init__(self) -> None:
        self._rooms: list[torch.Tensor] = []

    def take(self, size_bytes: int) -> torch.Tensor | None:
        """A room of at least that many bytes, uint8 [bytes + 1]; None when none is free."""
        for room in self._rooms:
            if room[-1] == _FREE and len(room) > size_bytes:
                room[-1] = _TAKEN
                return room
        if len(self._rooms) == _ROOMS:
            return None
        room = torch.zeros(size_bytes + 1, dtype=torch.uint8)
        room.share_memory_()  # type: ignore[no-untyped-call]
        room[-1] = _TAKEN
        self._rooms.append(room)
        return room


def stack_rows(
    images: Sequence[torch.Tensor], rooms: SharedRooms | None
) -> tuple[torch.Tensor, bool]:
    """(uint8 [B, H, W, C] of as many [H, W, C], whether it lies in one of the rooms)."""
    shape = (len(images), *images[0].shape)
    room = rooms.take(math.prod(shape)) if rooms is not None else None
    if room is None:
        return torch.stack(list(images)), False
    return torch.stack(list(images), out=room[: math.prod(shape)].view(shape)), True


class Reader:
    """The other end, in the process that asked for the batches."""

    def __init__(self) -> None:
        # while they are held, the same memory that comes again is not mapped anew
        self._rooms: dict[int, torch.Tensor] = {}

    def own(self, images: torch.Tensor) -> torch.Tensor:
        """What lies in a room, in memory of one's own; the room is free for other batches."""
        room = torch.empty(0, dtype=torch.uint8).set_(images.untyped_storage())
        self._rooms[room.data_ptr()] = room
        copied = images.clone()
        room[-1] = _FREE
        return copied
