"""How the processes of one command meet, by what torchrun told each of them."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from imgcls.errors import ConfigError, reason_of

# process 0 may check, measure and fit for hours while the others wait; one that has died is known
# at once, by its closed connection
_TIMEOUT = timedelta(days=2)
# whoever starts them has been there before them; the other processes may take their time
_MEETING_TIMEOUT = timedelta(minutes=10)


def meet() -> tuple[int, int, int, int]:
    """(rank, size, local rank, local size), once all are there: by nccl on cuda, gloo on the CPU.

    Where several processes have one GPU, gloo there too: nccl refuses that. Raises ConfigError.
    """
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(own_gpu(local_rank))
        shared = local_size > torch.cuda.device_count()
        backend = f"cpu:gloo,cuda:{'gloo' if shared else 'nccl'}"
    try:
        store, _, _ = next(rendezvous("env://", timeout=_MEETING_TIMEOUT))
        store.set_timeout(_TIMEOUT)
        dist.init_process_group(
            backend,
            store=PrefixStore("imgcls", store),
            rank=rank,
            world_size=size,
            timeout=_TIMEOUT,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the {size} processes of this command cannot meet: {reason_of(error)}"
        ) from error
    return rank, size, local_rank, local_size


def own_gpu(local_rank: int) -> torch.device | None:
    """One each, in turn where they are few; None where there is none."""
    count = torch.cuda.device_count()
    return torch.device("cuda", local_rank % count) if count else None
