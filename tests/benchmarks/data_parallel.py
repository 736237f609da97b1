"""Two processes of one thread each against one process of one thread: pictures a second.

    python tests/benchmarks/data_parallel.py [--models NAME ...] [--pairs 5] [--pictures 512]

Three ways train on the same JPEGs, in turn, each in new processes with OMP_NUM_THREADS=1 and
without loader processes, on a machine that should have two idle cores:

    one       imgcls train, one process
    together  torch.distributed.run --nproc-per-node 2 -m imgcls train, the same batch divided
    apart     two imgcls train at once, each on half of the pictures with half of the batch

A speed is the training pictures of an epoch over the median `epoch_time` of history.csv behind the
first epoch. That has the scoring of 4 validation pictures in it, by each process of `apart` and
divided in `together`: less than 1% of an epoch of 512 pictures, more where --pictures is less. The
ratio is the median of the pairs' together / one. What `apart` lacks against twice `one` is lost to
what two cores share, such as memory; what `together` lacks against `apart` is the time in
communication, waiting for each other included: both make as many updates of as many pictures a
process.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MODELS = ("mobilenetv3_small_100", "resnet18")
EPOCHS = 4
TIMEOUT_S = 1800
TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@dataclass(frozen=True)
class Trained:
    """One way's speed over all its processes, and the training loss of its first epoch."""

    pictures_per_s: float
    first_loss: float


def make_photos(folder: Path, count: int) -> list[Path]:
    """`count` training JPEGs in two classes, whole and in two halves that are links to them."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    places = [folder / name for name in ("all", "half0", "half1")]
    for label, pixels in enumerate(load_sample_images().images):
        photo = Image.fromarray(pixels)
        for place in places:
            for split in ("train", "val"):
                (place / split / str(label)).mkdir(parents=True)
        for index in range(count // 2 + 2):
            left, top = int(rng.integers(0, 60)), int(rng.integers(0, 40))
            crop = photo.resize((500, 375), box=(left, top, left + 560, top + 380))
            is_val = index >= count // 2
            name = f"{'val' if is_val else 'train'}/{label}/{index:04d}.jpg"
            crop.save(places[0] / name, quality=90)
            for place in places[1:] if is_val else (places[1 + index % 2],):
                (place / name).hardlink_to(places[0] / name)
    return places


def command(data: Path, output: Path, model: str, batch: int, before: Sequence[str] = ()) -> list:
    return [
        *(sys.executable, *before, "-m", "imgcls", "train", str(data)),
        *("--model", model, "--no-pretrained", "--batch-size", str(batch)),
        *("--epochs", str(EPOCHS), "--patience", "0", "--workers", "0", "--device", "cpu"),
        *("--amp", "off", "--channels-last", "--augment", "light", "--no-preflight"),
        *("--lr", "0.001", "--output", str(output), "--quiet"),
    ]


def finish(commands: Sequence[Sequence[str]]) -> None:
    """Run the commands at once, one thread each. Ends the benchmark when one fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            one, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        for one in commands
    ]
    try:
        for process in running:
            said = process.communicate(timeout=TIMEOUT_S)[1]
            if process.returncode:
                sys.exit(f"{' '.join(map(str, process.args))}\n{said}")
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


def trained(output: Path, pictures: int) -> Trained:
    """What the only run below the folder says of itself."""
    histories = sorted(output.glob("*/fold_0/history.csv"))
    if len(histories) != 1:
        sys.exit(
            f"{len(histories)} runs in {output} instead of 1: this imgcls does not train together "
            "what torch.distributed.run starts"
        )
    with histories[0].open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["train_loss"]]
    if len(rows) != EPOCHS:
        sys.exit(f"{histories[0]}: {len(rows)} epochs instead of {EPOCHS}")
    epoch_s = statistics.median(float(row["epoch_time"]) for row in rows[1:])
    return Trained(pictures / epoch_s, float(rows[0]["train_loss"]))


def one(places: Sequence[Path], output: Path, model: str, batch: int, pictures: int) -> Trained:
    finish([command(places[0], output, model, batch)])
    return trained(output, pictures)


def together(
    places: Sequence[Path], output: Path, model: str, batch: int, pictures: int
) -> Trained:
    finish([command(places[0], output, model, batch, TWO)])
    return trained(output, pictures)


def apart(places: Sequence[Path], output: Path, model: str, batch: int, pictures: int) -> Trained:
    outputs = [output / place.name for place in places[1:]]
    finish(
        [
            command(place, below, model, batch // 2)
            for place, below in zip(places[1:], outputs, strict=True)
        ]
    )
    both = [trained(below, pictures // 2) for below in outputs]
    return Trained(sum(half.pictures_per_s for half in both), both[0].first_loss)


WAYS = (one, together, apart)


def measure(places: Sequence[Path], model: str, batch: int, pictures: int, pairs: int) -> None:
    rounds: list[dict[str, Trained]] = []
    for turn in range(pairs):
        found: dict[str, Trained] = {}
        # no way always comes first
        for way in WAYS[turn % 3 :] + WAYS[: turn % 3]:
            with tempfile.TemporaryDirectory() as output:
                found[way.__name__] = way(places, Path(output), model, batch, pictures)
        rounds.append(found)
        speeds = "  ".join(f"{name} {way.pictures_per_s:.1f}/s" for name, way in found.items())
        print(f"{model}, round {turn + 1}: {speeds}", flush=True)

    def ratios(ours: str, theirs: str) -> list[float]:
        return sorted(r[ours].pictures_per_s / r[theirs].pictures_per_s for r in rounds)

    for ours, theirs in (("together", "one"), ("apart", "one"), ("together", "apart")):
        all_of = ratios(ours, theirs)
        print(
            f"{model}, {ours} / {theirs}: {statistics.median(all_of):.2f}x "
            f"({all_of[0]:.2f}-{all_of[-1]:.2f}x of {len(all_of)})"
        )
    shares = [1 - ratio for ratio in reversed(ratios("together", "apart"))]
    print(
        f"{model}, time in communication: {statistics.median(shares):.1%} of a step together "
        f"({shares[0]:.1%} to {shares[-1]:.1%}; below 0 other work decided)"
    )
    gap = max(abs(r["together"].first_loss - r["one"].first_loss) for r in rounds)
    print(f"{model}, first epoch's loss, together and one: {gap:.1e} apart")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=512, help="a multiple of --batch-size")
    parser.add_argument("--batch-size", type=int, default=32, help="of both processes; even")
    chosen = parser.parse_args()
    if chosen.batch_size % 2 or chosen.pictures % (2 * chosen.batch_size):
        parser.error("--pictures must be a multiple of twice --batch-size, which must be even")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    print(f"{cores} cores, load average {load:.1f} before the first round", flush=True)
    if load > 0.5:
        print("other work is running: the ratio is below what idle cores give", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        places = make_photos(Path(folder), chosen.pictures)
        for model in chosen.models:
            measure(places, model, chosen.batch_size, chosen.pictures, chosen.pairs)


if __name__ == "__main__":
    main()
