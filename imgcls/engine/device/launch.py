"""One command as several processes on this machine, by torch's elastic launcher. Loads no torch."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Literal

from imgcls.errors import ConfigError, RunFailedError

# the main process saves before it ends, however long that takes
_SAVING_S = 24 * 3600
_LOOK_EVERY_S = 1.0
_SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGUSR1"


def are_several() -> bool:
    """True in a process that torchrun, or `launch`, has started beside others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def end_with_launcher() -> None:
    """Let this process be told to stop, by SIGTERM, when torch's launcher is killed."""
    launcher = os.getppid()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_stop_behind, args=(launcher,), daemon=True).start()


def _stop_behind(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(_LOOK_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


def launch(devices: int | Literal["all"], device: str, arguments: Sequence[str]) -> int | None:
    """Run the command of these arguments in one process a device, and return its exit code.

    None where one process will do: this one. Raises ConfigError for devices that there are not.
    """
    if are_several() or devices == 1:
        return None
    count = _count(devices, device)
    if count == 1:
        return None
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # on a CPU all of them would otherwise take all cores
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(_cores()) // count)))
    # what ends a process is told by it, in one line
    logging.disable()
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=f"imgcls-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),  # else an empty folder stays in /tmp
        signals_to_handle=_SIGNALS,
        shutdown_timeout=_SAVING_S,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "imgcls", *arguments)
    except ChildFailedError as error:
        return _code_of({each.local_rank: each.exitcode for each in error.failures.values()})
    except SignalException as error:
        return 128 + int(error.sigval)
    finally:
        # all have ended: a late one must not interrupt what is left to say
        for name in _SIGNALS.split(","):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    return 0


def _code_of(codes: Mapping[int, int]) -> int:
    """The exit code of the command by those, by rank, of the processes that failed.

    Raises RunFailedError where none of them could say why.
    """
    # that of those that torch ended because of another one
    ended = (-signal.SIGTERM, 128 + signal.SIGTERM)
    first = min(codes, key=lambda rank: (codes[rank] in ended, rank))
    if codes.get(0, -1) > 0 and (codes[0] not in ended or first == 0):
        return codes[0]
    if codes[first] > 0:
        return codes[first]
    name = signal.Signals(-codes[first]).name
    raise RunFailedError(
        f"process {first} of this command was ended by {name}, often for want of memory; what was "
        "saved is intact, and `imgcls resume` goes on with a run"
    )


def _count(devices: int | Literal["all"], device: str) -> int:
    import torch

    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if devices == "all":
        if not gpus:
            raise ConfigError(
                "--devices all: this machine has no GPU that --device names; on a CPU give a number"
            )
        return gpus
    if gpus and devices > gpus:
        raise ConfigError(f"--devices {devices}: this machine has {gpus}")
    if device.startswith("cuda:") or device == "mps":
        raise ConfigError(f"--devices {devices}: --device {device} names a single one")
    return devices


def _cores() -> Sequence[int]:
    if hasattr(os, "sched_getaffinity"):
        return tuple(os.sched_getaffinity(0))
    return range(os.cpu_count() or 1)
