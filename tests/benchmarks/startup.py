"""How long commands take to answer, beside `python -c pass` and `import timm`.

Run by hand: `python tests/benchmarks/startup.py`. Commands are run in turn, several rounds, and
the medians are printed, because machines are noisy.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 7
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "imgcls --version": ["-m", "imgcls", "--version"],
    "imgcls --help": ["-m", "imgcls", "--help"],
    "imgcls train --help": ["-m", "imgcls", "train", "--help"],
    "imgcls list-models": ["-m", "imgcls", "list-models"],
    "imgcls list-models vit": ["-m", "imgcls", "list-models", "vit"],
    "python -c 'import timm'": ["-c", "import timm"],
}


def main() -> None:
    times_s: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            start_s = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            times_s[name].append(time.perf_counter() - start_s)
    medians_s = {name: statistics.median(values) for name, values in times_s.items()}
    timm_s = medians_s["python -c 'import timm'"]
    print(f"{'command':<26} {'median':>8} {'of import timm':>15}")
    for name, median_s in medians_s.items():
        print(f"{name:<26} {median_s:>6.2f} s {median_s / timm_s:>14.0%}")


if __name__ == "__main__":
    main()
