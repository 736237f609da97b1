"""Starts `imgcls` commands as real processes without importing torch for each of them.

Prints a line when it is ready. Reads one JSON list a line: [folder, argument, ...]. For each it
forks a process that runs the command, prints its pid, and, when it has ended, its exit code (minus
the signal that killed it).
"""

from __future__ import annotations

import json
import os
import sys


def run_command(folder: str, arguments: list[str]) -> None:
    from imgcls.cli.boundary import run

    os.setsid()
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 99
    try:
        code = run(arguments)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    # everything a training needs is imported here, once, and no thread has been started yet
    import sklearn.metrics
    import sklearn.model_selection  # noqa: F401
    import torch._dynamo  # noqa: F401

    import imgcls.jobs.evaluate
    import imgcls.jobs.train
    import imgcls.report.screen
    import imgcls.report.training  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        folder, *arguments = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run_command(folder, arguments)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
