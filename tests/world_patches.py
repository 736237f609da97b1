"""What goes wrong in one of several processes; see world_server.py."""

from __future__ import annotations

import os


def _rank() -> int:
    return int(os.environ.get("RANK", "0"))


def loss_is_nan_in_process_1() -> None:
    """At the fourth batch."""
    from imgcls.engine.training.step import Learner

    real, calls = Learner.loss_of, [0]

    def poisoned(learner, batch):
        calls[0] += 1
        loss = real(learner, batch)
        return loss * float("nan") if _rank() == 1 and calls[0] == 4 else loss

    Learner.loss_of = poisoned


def memory_ends_in_process_1() -> None:
    """In the middle of the fourth forward pass."""
    from imgcls.engine.training.step import Learner

    real, calls = Learner.loss_of, [0]

    def failing(learner, batch):
        calls[0] += 1
        if _rank() == 1 and calls[0] == 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(learner, batch)

    Learner.loss_of = failing


def cannot_be_built_in_process_1() -> None:
    """Before any training."""
    from imgcls.errors import WorkerError
    from imgcls.jobs.train import in_parallel

    real = in_parallel.assemble

    def failing(*arguments, **named):
        if _rank() == 1:
            raise WorkerError("loader processes cannot be started (it is full)")
        return real(*arguments, **named)

    in_parallel.assemble = failing


def weights_come_apart_in_process_1() -> None:
    """A defect that the processes must find by themselves."""
    import torch

    from imgcls.engine.training import fit

    real = fit.train_step

    def drifting(learner, micro_batches, step):
        found = real(learner, micro_batches, step)
        if _rank() == 1 and step == 3:
            with torch.no_grad():
                next(learner.model.parameters()).view(-1)[0] += 1e-3
        return found

    fit.train_step = drifting
