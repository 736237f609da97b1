"""One writer for a run folder at a time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imgcls.engine.durable import strict_json
from imgcls.errors import RunError

LOCK_NAME = ".lock"


@contextlib.contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Hold the run folder while the block runs.

    A lock whose process has ended on this machine is stale and taken over. Raises RunError, with
    the holder's pid and host, when another process holds it.
    """
    file = run / LOCK_NAME
    # written aside and linked into place, so that no reader meets a half-written lock
    mine = run / f"{LOCK_NAME}-{os.getpid()}"
    mine.write_text(strict_json(this_process()), encoding="utf-8")
    try:
        _take(mine, file)
    finally:
        mine.unlink(missing_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()


def this_process() -> dict[str, Any]:
    """What tells this process from all others, for `is_alive`."""
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": _start_time(os.getpid())}


def _take(mine: Path, file: Path) -> None:
    if _link(mine, file):
        return
    holder = _read(file)
    if holder is None or not is_alive(holder):
        file.unlink(missing_ok=True)
        if _link(mine, file):
            return
        holder = _read(file) or {}
    raise RunError(
        f"{file.parent}: in use by process {holder.get('pid')} on {holder.get('host')}; wait for "
        "it, or stop it first"
    )


def _link(mine: Path, file: Path) -> bool:
    """Make `file` appear at once with the content of `mine`; False when it is there already."""
    try:
        try:
            os.link(mine, file)
        except FileExistsError:
            return False
        except OSError:  # no hard links on this file system
            with file.open("x", encoding="utf-8") as stream:
                stream.write(mine.read_text(encoding="utf-8"))
    except FileExistsError:
        return False
    return True


def _read(file: Path) -> dict[str, Any] | None:
    try:
        holder = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return holder if isinstance(holder, dict) else None


def is_alive(holder: Mapping[str, Any]) -> bool:
    """False when the process has ended for sure; on another machine nobody can tell."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int):
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    # the pid may have been given to another process since
    return holder.get("started") in (None, _start_time(pid))


def _start_time(pid: int) -> str | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]
