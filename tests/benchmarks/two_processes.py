"""What two processes of gloo measure together, each with one thread: the parts of scaling.py.

Started by torch.distributed.run, as `two_processes.py reduce` or `two_processes.py merge FOLDER`;
process 0 prints the figures as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLASSES = 21_841
REDUCED_BYTES = (4, 4 << 10, 64 << 10, 1 << 20, 25 << 20, 100 << 20)
REPEATS = 7
Figures = dict[str, Any]


def best_s(action: Callable[[], object], repeats: int = REPEATS, clock=time.perf_counter) -> float:
    taken = []
    for _ in range(repeats):
        start_s = clock()
        action()
        taken.append(clock() - start_s)
    return min(taken)


def in_two_processes(task: str, *given: str) -> dict[str, Any]:
    """What process 0 of two prints, each with one thread."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
        *(__file__, task, *given),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, env=environment, timeout=500
    )
    return json.loads(done.stdout.splitlines()[-1])


def reduce_worker() -> Figures:
    import torch
    import torch.distributed as dist

    def timed(tensor: torch.Tensor, repeats: int) -> float:
        dist.all_reduce(tensor)
        taken = []
        for _ in range(repeats):
            dist.barrier()
            start_s = time.perf_counter()
            dist.all_reduce(tensor)
            taken.append(time.perf_counter() - start_s)
        return min(taken)

    seconds = {
        size: timed(torch.zeros(size // 4), 200 if size <= 64 << 10 else 40)
        for size in REDUCED_BYTES
    }
    gradient = torch.zeros(max(REDUCED_BYTES) // 4)
    return {
        "seconds": seconds,
        "bf16_all_reduce_s": timed(gradient.bfloat16(), 40),
        "bf16_cast_s": best_s(lambda: gradient.copy_(gradient.bfloat16())),
    }


def merge_worker(folder: Path) -> Figures:
    import numpy as np
    import torch
    import torch.distributed as dist

    from imgcls.storage.scores import ScoreFile

    rank, count = dist.get_rank(), 4000
    own = torch.randn(count // 2, CLASSES)
    parts = [torch.empty_like(own) for _ in range(2)] if rank == 0 else None
    dist.barrier()
    gather_s = best_s(lambda: dist.gather(own, parts), 5)
    if parts is None:
        return {}
    # process r has the pictures r, r + 2, r + 4, ...
    merged = np.empty((count, CLASSES), np.float32)

    def order():
        for number, part in enumerate(parts):
            merged[np.arange(number, count, 2)] = part.numpy()

    def write():
        with ScoreFile(folder / "scores.npy", count) as file:
            file.append(merged)
            file.mapped()

    order_s = best_s(order, 5, time.process_time)
    return {"bytes": merged.nbytes, "gather_s": gather_s, "order_s": order_s,
            "write_s": best_s(write, 5)}  # fmt: skip


def worker(task: str, *given: str) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo")
    found = {"reduce": reduce_worker, "merge": lambda: merge_worker(Path(given[0]))}[task]()
    if dist.get_rank() == 0:
        print(json.dumps(found), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    worker(*sys.argv[1:])
