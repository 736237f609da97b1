"""Processes that load or read pictures: they leave signals to the main process and end with it."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from types import FrameType

# how a process ends that would start processes while it only runs its script to begin
_UNGUARDED = 97
_LOOK_EVERY_S = 1.0
# only this tells who sent a signal; without it SIGTERM keeps its meaning, since the main process
# ends its workers by it
_KNOWS_SENDERS = hasattr(signal, "sigtimedwait")
_LEFT_TO_THE_MAIN_PROCESS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGHUP", "SIGUSR1", *(("SIGTERM",) if _KNOWS_SENDERS else ()))
    if hasattr(signal, name)
]


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def balanced_workers(load_s: float, model_s: float, cores: int | None = None) -> int:
    """How many loader processes keep up with a model that computes on the same cores.

    load_s: the seconds of one core to load a picture; model_s: those of the model on all `cores`.
    The share of the cores that is loading's share of the work, and one at least.
    """
    cores = available_cores() if cores is None else cores
    work_s = load_s + model_s * cores
    return max(1, math.ceil(cores * load_s / work_s)) if work_s > 0 else 1


@contextlib.contextmanager
def starting_workers() -> Iterator[None]:
    """Processes started in the block hear no signal before `follow_main_process` is called.

    What the main process hears in the block it answers at its end: an error raised between the
    start of a process and of what ends it would leave the process, and the exit waiting for it.

    SIGCHLD is left as it was. torch would raise its error about a loader process that died from a
    handler of it, anywhere in the main thread: inside an update, or while a checkpoint is written.
    Without the handler the error comes where a batch is waited for, within five seconds.
    """
    end_where_main_is_run_again()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _answering_signals_later(), _unheard_by_children():
        yield


@contextlib.contextmanager
def _answering_signals_later() -> Iterator[None]:
    # blocking is not enough: a signal that another thread takes is answered in this one
    answers = {
        number: answer
        for name in ("SIGINT", "SIGHUP", "SIGUSR1", "SIGTERM")
        if (number := getattr(signal, name, None)) is not None
        and callable(answer := signal.getsignal(number))
    }
    waiting: list[int] = []
    later = True

    def hear(number: int, frame: FrameType | None) -> None:
        if later:
            waiting.append(number)
        else:
            # left in place because another signal's error came before it could be taken away
            answers[number](number, frame)

    try:
        for number in answers:
            signal.signal(number, hear)
        yield
    finally:
        later = False
        for number, answer in answers.items():
            signal.signal(number, answer)
        for number in dict.fromkeys(waiting):
            signal.raise_signal(number)


@contextlib.contextmanager
def _unheard_by_children() -> Iterator[None]:
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    on_child = signal.getsignal(signal.SIGCHLD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_MAIN_PROCESS)
    try:
        yield
    finally:
        if on_child is not None:
            signal.signal(signal.SIGCHLD, on_child)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def as_many_as_asked_for() -> Iterator[None]:
    """A block in which torch does not warn of more loader processes than cores."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
        yield


def end_where_main_is_run_again() -> None:
    """End this process if it runs the user's script only because it is being started to load.

    Where processes cannot be forked each begins by running the main script. What that calls would
    be done again there, as far as starting processes of its own; see `guard_needed`.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(_UNGUARDED)


def guard_needed(exit_codes: Iterable[int | None]) -> str | None:
    """What to tell where processes ended so, by the exit codes of all; None where none did."""
    if _UNGUARDED not in exit_codes:
        return None
    script = getattr(sys.modules["__main__"], "__file__", None) or "the script"
    return (
        f"processes that load pictures begin by running {script} again: put what it does under "
        '`if __name__ == "__main__":`, or load without them by workers=0'
    )


def follow_main_process() -> None:
    """Hear no signal that the main process answers, and end when it ends, however it does.

    `timeout`, Slurm, systemd and a terminal signal every process of a job; which batch is the last
    is for the main process to say.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_THE_MAIN_PROCESS)
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_main_process, daemon=True).start()


def _end_with_main_process() -> None:
    # the kernel's own way, PR_SET_PDEATHSIG, would end the process with the *thread* that made it
    main = multiprocessing.parent_process()
    assert main is not None
    while os.getppid() == main.pid:
        if not _KNOWS_SENDERS:
            time.sleep(_LOOK_EVERY_S)
            continue
        told = signal.sigtimedwait({signal.SIGTERM}, _LOOK_EVERY_S)
        if told is not None and told.si_pid == main.pid:
            break
    os._exit(1)
