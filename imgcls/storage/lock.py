"""One writer for a run folder at a time, by a lock that the kernel lets go of at any death.

outputs/<run>/
  .lock    stays; who holds it, or held it last, is written in it, and whether it is held only the
           kernel knows
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls.config.files import read_json, read_text
from imgcls.errors import RunError
from imgcls.storage.durable import strict_json, why_not_written

# filelock and psutil are loaded when they are needed: a list of runs only looks at locks
if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_NAME = ".lock"
# processes that a killed one had forked may hold its lock until they see that it has gone
_ORPHANS_S = 10.0
# `is_locked` holds a lock for an instant
_LOOKED_AT_S = 0.3


@contextlib.contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Hold the run folder while the block runs.

    Raises RunError when another process holds it, or when the folder cannot be locked. What an
    ended process left in the file, on this machine or another, holds nothing.
    """
    file = run / LOCK_NAME
    try:
        lock = take_lock(file, run)
    except IsADirectoryError:
        raise RunError(f"{file}: is a folder where a lock file should be; remove it") from None
    except OSError as error:
        raise RunError(
            f"{file}: cannot be written, so the run cannot be locked: {why_not_written(error)}"
        ) from error
    try:
        yield
    finally:
        lock.release()


def take_lock(file: Path, what: Path) -> BaseFileLock:
    """The lock on `what` that the file stands for, held until its release.

    Raises RunError when another process holds it, OSError when the file cannot be written.
    """
    from filelock import Timeout

    holder = _read(file)
    try:
        try:
            lock = _acquired(file, _LOOKED_AT_S)
        except Timeout:
            if "pid" in holder and is_alive(holder):
                raise
            lock = _acquired(file, _ORPHANS_S)
    except Timeout:
        who = f"process {holder['pid']} on {holder.get('host')}" if "pid" in holder else "a process"
        raise RunError(
            f"{what}: in use by {who}, which holds {file}; wait for it, or stop it first"
        ) from None
    _sign(file)
    return lock


def is_locked(run: str | Path) -> bool:
    """True while another process, or another block in this one, holds the run folder."""
    return is_held(f"{run}/{LOCK_NAME}")


def is_held(file: str | Path) -> bool:
    """True while another process, or another block in this one, holds a lock file."""
    held = _is_held(file)
    if held is not None:
        return held
    from filelock import Timeout

    try:
        _acquired(Path(file), 0).release()
    except Timeout:
        return True
    except OSError:  # nobody can hold what cannot be opened for writing
        return False
    return False


def is_in_use(run: str | Path) -> bool:
    """As `is_locked`, but False where only what a killed process had forked still holds it."""
    return is_locked(run) and is_alive(_read(Path(run, LOCK_NAME)))


def _is_held(file: str | Path) -> bool | None:
    """Whether the kernel says so, which takes no right to write; None where it cannot be asked."""
    if sys.platform == "win32":
        return None if Path(file).is_file() else False
    import fcntl

    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without such locks
        return None
    finally:
        os.close(descriptor)
    return False


def this_process() -> dict[str, Any]:
    """Pid, host, start time and namespace of this process, by which `is_alive` knows it again."""
    import socket

    pid = os.getpid()
    return {
        "pid": pid,
        "host": socket.gethostname(),
        "started": _start_time(pid),
        "namespace": _namespace(),
    }


def is_alive(process: Mapping[str, Any]) -> bool:
    """False when the process has ended for sure; on another machine nobody can tell."""
    import socket

    import psutil

    pid = process.get("pid")
    if process.get("host") != socket.gethostname() or not isinstance(pid, int):
        return True
    if process.get("namespace") != _namespace():  # a container has numbers of its own
        return True
    try:
        if not psutil.pid_exists(pid):
            return False
    except OverflowError:
        return False
    # the pid may have been given to another process since
    return process.get("started") in (None, _start_time(pid))


def _acquired(file: Path, timeout_s: float) -> BaseFileLock:
    from filelock import FileLock

    lock: BaseFileLock = FileLock(file)
    with warnings.catch_warnings():
        # on a file system without locks filelock lets the file itself be one
        warnings.filterwarnings("ignore", message="flock not supported", category=UserWarning)
        lock.acquire(timeout=timeout_s)
    return lock


def _sign(file: Path) -> None:
    """Write into a lock just taken who holds it, for the message that others get."""
    with contextlib.suppress(OSError, ValueError):  # Windows lets nobody write into it
        # text of another kind is filelock's own, where the file system has no locks
        if read_text(file)[:1] in ("", "{"):
            file.write_text(strict_json(this_process()), encoding="utf-8")


def _read(file: Path) -> dict[str, Any]:
    try:
        holder = read_json(file)
    except (OSError, ValueError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _start_time(pid: int) -> str | None:
    """What the kernel says of when a process began, as it says it; None where it does not."""
    if sys.platform != "linux":
        import psutil

        try:
            return str(psutil.Process(pid).create_time())
        except psutil.Error:
            return None
    try:
        # psutil's is reckoned from the clock, which somebody may have set since
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def _namespace() -> str | None:
    """The name of the set of processes that this one's number belongs to, on Linux."""
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115  the text; it leads to no file
    except OSError:
        return None
