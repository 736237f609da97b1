"""Starts `imgcls` commands as real processes without importing torch for each of them.

Prints a line when it is ready. Reads one JSON list a line: [folder, kill, argument, ...]. For each
it forks a process that runs the command, prints its pid, and, when it has ended, its exit code
(minus the signal that killed it). kill: null, or [module, function, n]: the process group is killed
where the function is called for the n-th time. Its own arguments, MODULE NAME NUMBER each, are
bounds that the commands have in place of their own.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import sys


def kill_at(module: str, name: str, number: int) -> None:
    """Let the process group die at the n-th call of a function."""
    place = importlib.import_module(module)
    real = getattr(place, name)
    calls = itertools.count(1)

    def counted(*arguments: object, **keywords: object) -> object:
        if next(calls) == number:
            os.killpg(0, signal.SIGKILL)
        return real(*arguments, **keywords)

    setattr(place, name, counted)


def run_command(folder: str, kill: tuple[str, str, int] | None, arguments: list[str]) -> None:
    from imgcls.cli.boundary import run

    os.setsid()
    os.chdir(folder)
    if kill is not None:
        kill_at(*kill)
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

    import imgcls.jobs.evaluate.evaluate
    import imgcls.jobs.predict.predict
    import imgcls.jobs.train.resume
    import imgcls.output.screens.screen
    import imgcls.output.screens.training  # noqa: F401

    for module, name, number in zip(*[iter(sys.argv[1:])] * 3, strict=True):
        place = importlib.import_module(module)
        assert hasattr(place, name)
        setattr(place, name, int(number))
    print("ready", flush=True)
    for line in sys.stdin:
        folder, kill, *arguments = json.loads(line)
        pid = os.fork()
        if pid == 0:
            run_command(folder, kill, arguments)
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
