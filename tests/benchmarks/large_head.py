"""The classifier's fit to features that are too many to be fitted whole: time, memory, a stop.

Run by hand: `python tests/benchmarks/large_head.py [PICTURES WIDTH CLASSES]`, by default 100,000
pictures of 1,280 synthetic features in 1,000 classes, in a file as those of a training.
It prints what a pass takes, what all take together, the memory beyond the file's, and how long a
signal is waited for.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from imgcls.data.loading.features import FeatureSet
from imgcls.engine.training.interrupt import SignalledError, StopRequest, stop_on_signals
from imgcls.jobs.train.head.in_blocks import fit_in_blocks

ROWS_AT_ONCE = 5000
_MIB = 2**20


def write_features(file: Path, shape: tuple[int, int], classes: int) -> np.ndarray:
    """Features around a centre for each class, in a file; the labels int64 [N]."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, shape[0])
    centres = rng.normal(size=(classes, shape[1])).astype(np.float32) * 0.15
    kept = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(1, *shape))
    for begin in range(0, shape[0], ROWS_AT_ONCE):
        own = centres[labels[begin : begin + ROWS_AT_ONCE]]
        kept[0, begin : begin + len(own)] = own + rng.normal(size=own.shape)
    return labels


def anonymous_mib() -> float:
    """What this process holds beside mapped files, which the system may take back."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024 / _MIB
    return float("nan")


def fit(file: Path, labels: np.ndarray, classes: int) -> None:
    """One fit: its figures. A line tells of the first pass, for whoever sends a signal then."""
    features = FeatureSet(np.arange(len(labels)), np.load(file, mmap_mode="r"))
    before_mib, most_mib, begun_s = anonymous_mib(), 0.0, time.monotonic()
    passes = []

    def told(done: int, most: int) -> None:
        nonlocal most_mib
        most_mib = max(most_mib, anonymous_mib())
        passes.append(time.monotonic())
        print(f"pass {done} of {most} at most", flush=True)

    heard = StopRequest()
    try:
        with stop_on_signals(request=heard), heard.at_once():
            found = fit_in_blocks(
                features, np.arange(len(labels)), labels, classes, imbalance="none", seed=0,
                device=torch.device("cpu"), on_pass=told,
            )  # fmt: skip
    except SignalledError:
        print(f"stopped behind pass {len(passes)}", flush=True)
        return
    took_s = time.monotonic() - begun_s
    file_mib, beside_mib = file.stat().st_size / _MIB, most_mib - before_mib
    print(
        f"{len(passes)} passes in {took_s:.0f} s, each {took_s / len(passes):.1f} s; "
        f"C {found.c:g}; {beside_mib:,.0f} MiB beside the file's {file_mib:,.0f}"
    )


def stopped_after_s(command: list[str]) -> float:
    """Seconds from a signal in the second pass until the process has ended."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith("pass 1 "))
    time.sleep(1)
    begun_s = time.monotonic()
    process.send_signal(signal.SIGINT)
    said = process.stdout.read()
    process.wait()
    assert "stopped behind" in said, said
    return time.monotonic() - begun_s


def main(arguments: list[str]) -> None:
    pictures, width, classes = map(int, arguments) if arguments else (100_000, 1280, 1000)
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "features.npy"
        labels = write_features(file, (pictures, width), classes)
        np.save(Path(place) / "labels.npy", labels)
        command = [sys.executable, __file__, "--fit", str(file), str(classes)]
        print(f"a signal is waited for {stopped_after_s(command):.1f} s", flush=True)
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        print(lines.splitlines()[-1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fit"]:
        place = Path(sys.argv[2])
        fit(place, np.load(place.parent / "labels.npy"), int(sys.argv[3]))
    else:
        main(sys.argv[1:])
