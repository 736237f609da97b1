"""How long commands take to answer, beside `python -c pass`, their libraries, and `import timm`.

Run by hand: `python tests/benchmarks/startup.py [ROUNDS]`. Commands run in turn, several rounds
after one that is not timed, and medians are printed, because machines are noisy. They run from
bytecode, as what pip has installed does, whatever PYTHONDONTWRITEBYTECODE says here. `train` is
timed to its first line of output, and stopped there. `runs` lists 1,000 runs: copies of one that
was trained and evaluated with its page, all of its files in each; weights and pictures have their
size, and are empty.

The libraries are what no command line of typer with options of pydantic can go below.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from imgcls.cli.app import COMMANDS as TYPED

PASS, TIMM = "python -c pass", "python -c 'import timm'"
LIBRARIES = "gc.disable, typer, pydantic"
_IMPORTS = "import gc; gc.disable(); import typer; from pydantic import BaseModel, field_validator"
HELP_BOUND_S, LIST_BOUND_S, FIRST_LINE_BOUND_S, RUNS_BOUND_S = 0.15, 0.25, 0.30, 0.40
RUNS, MANY_RUNS = 1000, "imgcls runs, 1,000 of them"
READ = (".json", ".yaml", ".csv", ".lock")
# what is run, and how many seconds more than `python -c pass` it may take
COMMANDS: dict[str, tuple[list[str], float | None]] = {
    PASS: (["-c", "pass"], None),
    LIBRARIES: (["-c", _IMPORTS], None),
    "imgcls --version": (["-m", "imgcls", "--version"], HELP_BOUND_S),
    "imgcls --help": (["-m", "imgcls", "--help"], HELP_BOUND_S),
    **{f"imgcls {c} --help": (["-m", "imgcls", *c.split(), "--help"], HELP_BOUND_S) for c in TYPED},
    "imgcls list-models": (["-m", "imgcls", "list-models"], LIST_BOUND_S),
    "imgcls list-models '*'": (["-m", "imgcls", "list-models", "*"], LIST_BOUND_S),
    MANY_RUNS: (["-m", "imgcls", "runs"], RUNS_BOUND_S),
    "imgcls train, first line": (["-m", "imgcls", "train"], FIRST_LINE_BOUND_S),
    TIMM: (["-c", "import timm"], None),
}


def make_runs(folder: Path) -> None:
    """So many copies of a run, in the folder's outputs/."""
    options = "--model test_resnet --no-pretrained --img-size 32 --epochs 3 --device cpu --quiet"
    run = [sys.executable, "-m", "imgcls"]
    train = [*run, "train", *options.split(), "--workers", "0", "--name", "r", "--output", "made"]
    for command in (train, [*run, "evaluate", "made/r", "--workers", "0", "--quiet"]):
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    made = folder / "made" / "r"
    for number in range(RUNS):
        copy = folder / "outputs" / f"digits-test_resnet-{number:04d}"
        shutil.copytree(made, copy, symlinks=True, copy_function=_copy)


def _copy(source: str, target: str) -> None:
    if source.endswith(READ):
        shutil.copyfile(source, target)
    else:
        with Path(target).open("wb") as stream:
            stream.truncate(Path(source).stat().st_size)


def seconds(arguments: list[str], folder: Path, *, first_line: bool) -> float:
    with tempfile.TemporaryDirectory() as empty:
        start_s = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder if arguments[-1] == "runs" else empty,
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
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder))
        for number in range(rounds + 1):
            for name, (arguments, _) in COMMANDS.items():
                elapsed_s = seconds(arguments, Path(folder), first_line="first line" in name)
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
