"""Starts `imgcls` commands in several processes, as torch's launcher does, each within a moment.

Prints a line when it is ready. Reads one JSON list a line: [folder, processes, patches,
argument, ...], and forks that many processes with torch in memory already, which meet on loopback.
One that fails ends the others, as torch's launcher sees to. Prints their exit codes as a JSON list.
patches: functions "module:name" that each process calls before it begins.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import time


def run_process(folder: str, environment: dict[str, str], patches: list[str], arguments: list[str]):
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 99
    try:
        from imgcls.cli.boundary import run

        for patch in patches:
            module, name = patch.split(":")
            getattr(importlib.import_module(module), name)()
        code = run(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run_world(folder: str, processes: int, patches: list[str], arguments: list[str]) -> list[int]:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    pids = []
    for rank in range(processes):
        environment = {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
            "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
        }  # fmt: skip
        pid = os.fork()
        if pid == 0:
            run_process(folder, environment, patches, arguments)
        pids.append(pid)
    codes: dict[int, int] = {}
    told = False
    while len(codes) < processes:
        for pid in pids:
            if pid not in codes:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    codes[pid] = os.waitstatus_to_exitcode(status)
        if any(codes.values()) and not told:
            told = True
            for pid in set(pids) - set(codes):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        time.sleep(0.01)
    return [codes[pid] for pid in pids]


def main() -> None:
    # everything a command needs is imported here, once, and no thread has been started yet
    import sklearn.metrics
    import sklearn.model_selection
    import torch._dynamo  # noqa: F401

    import imgcls.jobs.evaluate.evaluate
    import imgcls.jobs.train.resume
    import imgcls.output.screens.screen
    import imgcls.output.screens.training  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        folder, processes, patches, *arguments = json.loads(line)
        print(json.dumps(run_world(folder, processes, patches, arguments)), flush=True)


if __name__ == "__main__":
    main()
