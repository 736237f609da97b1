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
    from imgcls.jobs.train.several import in_parallel

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


def _wait_here(module: str, name: str) -> None:
    """Say that the main process has got so far, and let it wait for the test."""
    import importlib
    import time
    from pathlib import Path

    owner: object = importlib.import_module(module)
    *outer, last = name.split(".")
    for each in outer:
        owner = getattr(owner, each)
    real = getattr(owner, last)

    def waiting(*arguments, **named):
        if _rank() == 0 and not Path("go-on").exists():
            Path("there").touch()
            while not Path("go-on").exists():
                time.sleep(0.01)
        return real(*arguments, **named)

    setattr(owner, last, waiting)


def in_validation() -> None:
    _wait_here("imgcls.engine.training.selection.validation", "_pass_over_val")


def in_features() -> None:
    _wait_here("imgcls.jobs.train.fold", "_on_the_way")


def in_the_fit() -> None:
    _wait_here("imgcls.jobs.train.head.fit", "fit_head")
    _wait_here("imgcls.jobs.train.fold", "fit_head")


def before_a_step() -> None:
    _wait_here("imgcls.jobs.train.fold", "fit")


def each_signals_itself() -> None:
    """While it computes."""
    import signal

    from imgcls.engine.scoring import together

    real = together.predict

    def signalling(*arguments, **named):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments, **named)

    together.predict = signalling
