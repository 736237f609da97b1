"""How long commands take to answer, beside `python -c pass`, their libraries, and `import timm`.

Run by hand: `python tests/benchmarks/startup.py [ROUNDS]`. Commands run in turn, several rounds
after one that is not timed, and medians are printed, because machines are noisy. They run from
bytecode, as what pip has installed does, whatever PYTHONDONTWRITEBYTECODE says here. `train` is
timed to its first line of output, and stopped there.

The libraries are what no command line of typer with options of pydantic can go below.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time

from imgcls.cli.app import COMMANDS as TYPED

PASS, TIMM = "python -c pass", "python -c 'import timm'"
LIBRARIES = "gc.disable, typer, pydantic"
_IMPORTS = "import gc; gc.disable(); import typer; from pydantic import BaseModel, field_validator"
HELP_BOUND_S, LIST_BOUND_S, FIRST_LINE_BOUND_S = 0.15, 0.25, 0.30
# what is run, and how many seconds more than `python -c pass` it may take
COMMANDS: dict[str, tuple[list[str], float | None]] = {
    PASS: (["-c", "pass"], None),
    LIBRARIES: (["-c", _IMPORTS], None),
    "imgcls --version": (["-m", "imgcls", "--version"], HELP_BOUND_S),
    "imgcls --help": (["-m", "imgcls", "--help"], HELP_BOUND_S),
    **{f"imgcls {c} --help": (["-m", "imgcls", *c.split(), "--help"], HELP_BOUND_S) for c in TYPED},
    "imgcls list-models": (["-m", "imgcls", "list-models"], LIST_BOUND_S),
    "imgcls list-models '*'": (["-m", "imgcls", "list-models", "*"], LIST_BOUND_S),
    "imgcls train, first line": (["-m", "imgcls", "train"], FIRST_LINE_BOUND_S),
    TIMM: (["-c", "import timm"], None),
}


def seconds(arguments: list[str], *, first_line: bool) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start_s = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"},
        )
        assert process.stderr is not None
        if first_line:
            assert process.stderr.readline()
            elapsed_s = time.perf_counter() - start_s
            process.kill()
            process.communicate()
        else:
            _, told = process.communicate()
            elapsed_s = time.perf_counter() - start_s
            assert process.returncode == 0, told
    return elapsed_s


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    times_s: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(rounds + 1):
        for name, (arguments, _) in COMMANDS.items():
            elapsed_s = seconds(arguments, first_line="first line" in name)
            if number:  # the first writes bytecode, and finds files on the disk
                times_s[name].append(elapsed_s)
    medians_s = {name: statistics.median(values) for name, values in times_s.items()}
    print(f"{'command':<26} {'median':>8} {'above pass':>11} {'bound':>7} {'of import timm':>15}")
    for name, median_s in medians_s.items():
        above_s, bound_s = median_s - medians_s[PASS], COMMANDS[name][1]
        bound = f"{bound_s:.2f} s" if bound_s is not None else ""
        print(
            f"{name:<26} {median_s:>6.2f} s {above_s:>9.2f} s {bound:>7} "
            f"{median_s / medians_s[TIMM]:>14.1%}"
        )
    late = [n for n, (_, b) in COMMANDS.items() if b and medians_s[n] - medians_s[PASS] > b]
    print(f"over their bound: {', '.join(late)}" if late else "all within their bounds")


if __name__ == "__main__":
    main()
