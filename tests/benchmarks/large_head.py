"""The classifier's fit to features that are too many to be fitted whole: time, memory, a stop.

Run by hand: `python tests/benchmarks/large_head.py [PICTURES WIDTH CLASSES]`, by default 100,000
pictures of 1,280 synthetic features in 1,000 classes, in a file as those of a training.
It prints how long a signal is waited for: a real one, and the longest time in the whole fit in
which none would be heard; what a pass takes and all take together; the most memory beyond the
file's; the loss of pictures that were not there, a tenth as many; and what a fit takes that goes on
when all of it is kept.
"""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from imgcls.data.loading.features import FeatureSet
from imgcls.engine.training.interrupt import SignalledError, StopRequest, stop_on_signals
from imgcls.jobs.train.head.in_blocks import fit_in_blocks
from imgcls.jobs.train.head.logistic import FittedHead, log_losses
from imgcls.storage.caches import FitFile

ROWS_AT_ONCE = 5000
EVERY_S = 0.05
_MIB = 2**20


def write_features(file: Path, labels: np.ndarray, centres: np.ndarray, seed: int) -> None:
    """Features around a centre for each class, in a file."""
    rng = np.random.default_rng(seed)
    shape = (1, len(labels), centres.shape[1])
    kept = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    for begin in range(0, len(labels), ROWS_AT_ONCE):
        own = centres[labels[begin : begin + ROWS_AT_ONCE]]
        kept[0, begin : begin + len(own)] = own + rng.normal(size=own.shape)


def anonymous_mib() -> float:
    """What this process holds beside mapped files, which the system may take back."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024 / _MIB
    return float("nan")


@dataclass
class Watched:
    """The longest time without a chance to hear a signal, and the most memory that was held."""

    deaf_s: float = 0.0
    most_mib: float = 0.0


@contextmanager
def watching() -> Iterator[Watched]:
    """Look by a timer whose signals are heard as any other."""
    found, last_s = Watched(), time.monotonic()

    def look(*_signal: object) -> None:
        nonlocal last_s
        found.deaf_s = max(found.deaf_s, time.monotonic() - last_s)
        found.most_mib = max(found.most_mib, anonymous_mib())
        last_s = time.monotonic()

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, EVERY_S, EVERY_S)
    try:
        yield found
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def fit(place: Path, classes: int) -> None:
    """One fit: its figures. A line tells of each pass, for whoever sends a signal then."""
    labels = np.load(place / "labels.npy")
    values = np.load(place / "features.npy", mmap_mode="r")
    features = FeatureSet(np.arange(len(labels)), values)
    before_mib, begun_s, begun_cpu_s = anonymous_mib(), time.monotonic(), time.process_time()
    passes = []

    def told(done: int, most: int) -> None:
        passes.append(done)
        print(f"pass {done} of {most} at most", flush=True)

    heard = StopRequest()
    try:
        with watching() as watched, stop_on_signals(request=heard), heard.at_once():
            found = fit_in_blocks(
                features, np.arange(len(labels)), labels, classes, imbalance="none", seed=0,
                device=torch.device("cpu"), on_pass=told, keep=FitFile(place / "fit"),
            )  # fmt: skip
    except SignalledError:
        print(f"stopped behind pass {len(passes)}", flush=True)
        return
    took_s, took_cpu_s = time.monotonic() - begun_s, time.process_time() - begun_cpu_s
    if passes:
        print(
            f"{len(passes)} passes in {took_s:.0f} s on {torch.get_num_threads()} threads, each "
            f"{took_cpu_s / len(passes):.2f} s of the CPU; C {found.c:.3g}; held-out loss "
            f"{found.nll:.4f}, "
            f"of others {loss_of_others(place, found):.4f}; "
            f"{watched.most_mib - before_mib:,.0f} MiB beside the features' "
            f"{values.nbytes / _MIB:,.0f}; a signal is heard after {watched.deaf_s:.1f} s at most"
        )
        np.save(place / "weight.npy", found.weight)
    else:
        same = np.array_equal(np.load(place / "weight.npy"), found.weight)
        print(
            f"gone on from what is kept in {took_cpu_s:.0f} s of the CPU: weights "
            f"{'are the same' if same else 'DIFFER'}"
        )


def loss_of_others(place: Path, found: FittedHead) -> float:
    """The mean loss of pictures that no fit has seen."""
    values, labels = np.load(place / "others.npy")[0], np.load(place / "others-labels.npy")
    parts = [slice(begin, begin + 1000) for begin in range(0, len(labels), 1000)]
    return float(np.concatenate([
        log_losses((values[part] @ found.weight.T + found.bias).astype(np.float64), labels[part])
        for part in parts
    ]).mean())  # fmt: skip


def stopped_after_s(command: list[str]) -> float:
    """Seconds from a signal in the second pass until the process has ended."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith("pass 1 "))
    begun_s = time.monotonic()
    # not SIGINT, which a shell lets its background jobs ignore
    process.send_signal(signal.SIGTERM)
    said = process.stdout.read()
    process.wait()
    assert "stopped behind" in said, said
    return time.monotonic() - begun_s


def main(arguments: list[str]) -> None:
    pictures, width, classes = map(int, arguments) if arguments else (100_000, 1280, 1000)
    with tempfile.TemporaryDirectory() as name:
        place, rng = Path(name), np.random.default_rng(0)
        labels = rng.integers(0, classes, pictures)
        others = rng.integers(0, classes, pictures // 10)
        centres = rng.normal(size=(classes, width)).astype(np.float32) * 0.15
        np.save(place / "labels.npy", labels)
        np.save(place / "others-labels.npy", others)
        write_features(place / "features.npy", labels, centres, 1)
        write_features(place / "others.npy", others, centres, 2)
        command = [sys.executable, __file__, "--fit", str(place), str(classes)]
        print(f"a signal is waited for {stopped_after_s(command):.1f} s", flush=True)
        for _ in range(2):
            lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            print(lines.splitlines()[-1], flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fit"]:
        fit(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(sys.argv[1:])
    # as the command does: Python would look through all modules once more before it ends
    gc.freeze()
