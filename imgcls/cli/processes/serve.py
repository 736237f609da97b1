"""The processes of a command that several run: one is told it, the others serve that one."""

from __future__ import annotations

import gc
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

from imgcls.engine.device.launch import end_with_launcher
from imgcls.engine.device.world import LostProcessError, World, join
from imgcls.engine.training.interrupt import SignalledError
from imgcls.errors import ImgclsError
from imgcls.output.text import visible


def run_together(arguments: Sequence[str], run: Callable[[Sequence[str]], int]) -> int:
    """This process's exit code: `run`'s in the main one, 0 in others that served it to its end."""
    end_with_launcher()
    try:
        here = join()
    except ImgclsError as error:
        return _told(error)
    if not here.is_main:
        return _serve(here, debug="--debug" in arguments)
    code = run(arguments)
    here.end()
    return code


def _serve(here: World, *, debug: bool) -> int:
    from imgcls.engine.device.runtime import keep_freed_memory

    gc.enable()
    keep_freed_memory()

    def hear(number: int, _frame: FrameType | None) -> None:
        # between two tasks the main process, which hears it too, says when to end
        if here.is_at_work:
            raise SignalledError(number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), hear)
    try:
        here.serve()
    except SignalledError as error:
        return 128 + error.signal_number
    except LostProcessError:
        return 1  # the one that ended first has said why
    except ImgclsError as error:
        return _told(error, here)
    except Exception as error:  # noqa: BLE001  a defect of ours still ends in one line
        if debug:
            traceback.print_exc()
        return _told(error, here)
    return 0


def _told(error: Exception, here: World | None = None) -> int:
    of = "" if here is None else f"process {here.rank}: "
    what = str(error) if isinstance(error, ImgclsError) else f"{type(error).__name__}: {error}"
    sys.stderr.write(f"imgcls: {of}{visible(' '.join(what.split()))}\n")
    return getattr(error, "exit_code", 1)
