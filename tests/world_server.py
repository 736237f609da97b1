"""Starts `imgcls` commands in several processes with torch in memory already.

Prints a line when it is ready, then reads JSON lists, one a line, and answers each by a JSON line:

run, folder, processes, patches, arguments: that many processes which meet on loopback; one that
fails ends the others. Answers with their exit codes, when all have ended.

launch, folder, patches, arguments: the command as it is typed, with `--devices`: it starts its
processes by torch's launcher, but for the new interpreter in each, which takes seconds. Answers
with the command's process id; those of all processes are in pids.txt, a line each.

ended, id: its exit code, or null while it has none.

patches: functions "module:name" that each process calls before it runs the command, where there is
one.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path


def enter(folder: str, environment: dict[str, str]) -> None:
    """Be a process of its own, as a new one is."""
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    with Path("pids.txt").open("a") as stream:
        stream.write(f"{os.getpid()}\n")


def run_command(patches: list[str], arguments: list[str]) -> None:
    from imgcls.cli.boundary import run

    code = 99
    try:
        sys.argv = ["imgcls", *arguments]
        for patch in patches:
            module, name = patch.split(":")
            getattr(importlib.import_module(module), name)()
        code = run(arguments) if arguments else 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class Forked:
    """What subprocess.Popen is for torch's launcher."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (timeout or 1e9)
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("imgcls", timeout or 0)
            time.sleep(0.005)
        return code


def fork_processes(patches: list[str]) -> None:
    """Let torch's launcher fork this process instead of starting a new interpreter."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    def popen(_handler: object, command: tuple[str, ...], environment: dict[str, str]) -> Forked:
        assert command[:3] == (sys.executable, "-m", "imgcls")
        pid = os.fork()
        if pid == 0:
            enter(".", environment)
            run_command(patches, list(command[3:]))
        return Forked(pid)

    subprocess_handler.SubprocessHandler._popen = popen


def run_world(folder: str, processes: int, patches: list[str], arguments: list[str]) -> list[int]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(processes):
        pid = os.fork()
        if pid == 0:
            environment = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(processes),
                "LOCAL_WORLD_SIZE": str(processes),
                "MASTER_ADDR": "localhost",
                "MASTER_PORT": str(port),
            }
            enter(folder, environment)
            run_command(patches, arguments)
        started.append(Forked(pid))
    told = False
    while None in [one.poll() for one in started]:
        if not told and any(one.returncode for one in started):
            told = True
            for one in started:
                if one.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(one.pid, signal.SIGTERM)
        time.sleep(0.01)
    return [one.wait() for one in started]


def launch(folder: str, patches: list[str], arguments: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        enter(folder, {})
        fork_processes(patches)
        alone = not any("--devices" in one for one in arguments) or arguments[-1] == "1"
        run_command(patches if alone else [], arguments)
    return pid


def ended(pid: int, known: dict[int, Forked]) -> int | None:
    return known.setdefault(pid, Forked(pid)).poll()


def main() -> None:
    # everything a command needs is imported here, once, and no thread has been started yet
    import sklearn.metrics
    import sklearn.model_selection  # noqa: F401
    import torch._dynamo
    import torch.distributed.launcher.api  # noqa: F401

    import imgcls.jobs.evaluate.evaluate
    import imgcls.jobs.train.resume
    import imgcls.output.screens.screen
    import imgcls.output.screens.training  # noqa: F401

    known: dict[int, Forked] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        what, *asked = json.loads(line)
        if what == "run":
            answer: object = run_world(*asked)
        elif what == "launch":
            answer = launch(*asked)
        else:
            answer = ended(*asked, known)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
