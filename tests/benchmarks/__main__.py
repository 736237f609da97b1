"""imgcls beside what it is measured against, as one table of ratios: `python tests/benchmarks`.

    python tests/benchmarks [--rounds N] [PART ...]

Parts: startup, loading, cache, evaluation, training, gpu (where there is one), checkpoints,
benchmark. Both sides of each row
run in turn, in the same few minutes, each time in a new process; a ratio is that of their medians,
and above 1 imgcls is the faster. CPU: the same ratio by seconds of the CPU, which other work on
the machine disturbs less. Pictures are made from scikit-learn's two photographs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

HERE = Path(__file__).parent
SMALL, LARGE, NOISY = "500 px", "12 MP", "12 MP noisy"
MODELS = ("resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_100")


# by the wall and, where it was taken, by seconds of the CPU
Speed = tuple[float, float | None]


@dataclass(frozen=True)
class Row:
    """One comparison. Each side gives its speed, the higher the better; wanted: the least ratio."""

    name: str
    ours: Callable[[], Speed]
    theirs: Callable[[], Speed]
    unit: str = "images/s"
    wanted: float | None = None


def make_pictures(folder: Path) -> dict[str, str]:
    """Crops of photographs of 500 pixels and of 12 megapixels, with some noise, in two classes.

    With it the large ones take a bit a pixel, as baseline JPEGs of cameras do at this quality; the
    noisy ones take 2.2.
    """
    rng = np.random.default_rng(0)
    for label, pixels in enumerate(load_sample_images().images):
        photo = Image.fromarray(pixels)
        for name, count, size, noise in (
            (SMALL, 128, (500, 375), 2),
            (LARGE, 8, (4000, 3000), 2),
            (NOISY, 8, (4000, 3000), 8),
        ):
            place = folder / name / str(label)
            place.mkdir(parents=True)
            for index in range(count):
                share = rng.uniform(0.7, 1.0)
                width, height = int(photo.width * share), int(photo.height * share)
                left = int(rng.integers(0, photo.width - width + 1))
                top = int(rng.integers(0, photo.height - height + 1))
                box = (left, top, left + width, top + height)
                crop = photo.resize(size[:: -1 if index % 2 else 1], Image.Resampling.BICUBIC, box)
                grain = rng.integers(-noise, noise + 1, (*crop.size[::-1], 1), np.int16)
                noisy = np.clip(np.asarray(crop, np.int16) + grain, 0, 255).astype(np.uint8)
                file = place / f"{index:03d}.jpg"
                Image.fromarray(noisy).save(file, quality=90)
                for again in range(0 if name == SMALL else 3):
                    (place / f"{index:03d}-{again}.jpg").hardlink_to(file)
    return {name: str(folder / name) for name in (SMALL, LARGE, NOISY)}


answers: dict[str, list[int]] = {}
losses: dict[str, list[list[float]]] = {}


def side(kind: str, who: str, folder: str, model: str, option: str, device: str = "cpu") -> Speed:
    """Images a second of one side, in a new process."""
    done = subprocess.run(
        [sys.executable, str(HERE / "sides.py"), kind, who, folder, model, option, device],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    result = json.loads(done.stdout)
    if "answers" in result:
        answers[f"{who} {folder} {model} {option}"] = result["answers"]
    if "losses" in result:
        losses.setdefault(f"{who} {model} {option}", []).append(result["losses"])
    return result["images_per_sec"], result["images_per_cpu_sec"]


def both(kind: str, folder: str, model: str, ours: str, theirs: str) -> dict[str, Callable]:
    return {
        "ours": partial(side, kind, "imgcls", folder, model, ours),
        "theirs": partial(side, kind, "timm", folder, model, theirs),
    }


def startup(_folders: dict[str, str]) -> Iterator[Row]:
    from startup import COMMANDS, TIMM, seconds

    def speed(name: str) -> Speed:
        return 1 / seconds(COMMANDS[name][0], first_line="first line" in name), None

    for name in ("imgcls --help", "imgcls train --help", "imgcls list-models"):
        yield Row(f"{name} / import timm", partial(speed, name), partial(speed, TIMM), "a second")


def loading(folders: dict[str, str]) -> Iterator[Row]:
    for name, option, wanted in (
        (SMALL, "eval", None), (LARGE, "eval", 1.8), (NOISY, "eval", 1.8),
        (SMALL, "train", None), (LARGE, "train", 5.0), (NOISY, "train", None),
    ):  # fmt: skip
        sides = both("loading", folders[name], "resnet18", option, option)
        yield Row(f"loading, {option}, {name}", **sides, wanted=wanted)


def cache(folders: dict[str, str]) -> Iterator[Row]:
    for name, wanted in ((SMALL, 2.5), (LARGE, 50.0)):
        sides = both("loading", folders[name], "resnet18", "cache", "train")
        yield Row(f"loading, train, {name}, --cache ram", **sides, wanted=wanted)


def evaluation(folders: dict[str, str]) -> Iterator[Row]:
    for amp, wanted in (("off", 1.8), ("bf16", 3.0)):
        sides = both("evaluation", folders[SMALL], "tf_efficientnet_lite0", amp, "off")
        yield Row(f"evaluation, tf_efficientnet_lite0, --amp {amp}", **sides, wanted=wanted)


def training(folders: dict[str, str]) -> Iterator[Row]:
    for model in MODELS:
        sides = both("training", folders[SMALL], model, "auto", "off")
        yield Row(f"training, {model}, --amp auto", **sides, wanted=1.5)
    # of a small model the step limits at 500 pixels, and loading does at 12 megapixels
    for name, model, wanted in (
        (SMALL, "lcnet_035", None), (LARGE, "mobilenetv3_small_100", 1.2)
    ):  # fmt: skip
        sides = both("training", folders[name], model, "off", "off")
        yield Row(f"training, {model}, {name}, float32", **sides, wanted=wanted)


def gpu(folders: dict[str, str]) -> Iterator[Row]:
    """resnet50 from JPEGs, beside the same step with nothing to load and a plain timm loop."""
    import torch

    if not torch.cuda.is_available():
        print("gpu: not run, there is no CUDA device")
        return
    for mode in ("bf16", "bf16+compile"):
        arguments = (folders[SMALL], "resnet50", mode, "cuda")
        ours = partial(side, "training", "imgcls", *arguments)
        limit = partial(side, "synthetic", "imgcls", *arguments)
        theirs = partial(side, "training", "timm", *arguments)
        yield Row(f"training on cuda, resnet50, {mode} / synthetic", ours, limit)
        yield Row(f"training on cuda, resnet50, {mode} / timm", ours, theirs)


def checkpoints(_folders: dict[str, str]) -> Iterator[Row]:
    from checkpoints import save_speed, torch_save_speed

    yield Row(
        "training held up by a save / torch.save",
        lambda: (save_speed(), None),
        lambda: (torch_save_speed(), None),
        "saves/s",
    )


def benchmark(_folders: dict[str, str]) -> Iterator[Row]:
    from tight_loop import MODELS as TIMED
    from tight_loop import by_hand, by_imgcls

    for model in TIMED:
        yield Row(
            f"imgcls benchmark / a tight loop, {model}",
            lambda model=model: (by_imgcls(model), None),
            lambda model=model: (by_hand(model), None),
        )


PARTS = {
    part.__name__: part
    for part in (startup, loading, cache, evaluation, training, gpu, checkpoints, benchmark)
}


def measure(row: Row, rounds: int) -> None:
    ours: list[Speed] = []
    theirs: list[Speed] = []
    for turn in range(rounds):
        # neither side is always the one that finds the machine warm
        for which in (ours, theirs) if turn % 2 else (theirs, ours):
            which.append(row.ours() if which is ours else row.theirs())
    mine, other = (statistics.median(speed for speed, _ in side) for side in (ours, theirs))
    ratios = sorted(a / b for (a, _), (b, _) in zip(ours, theirs, strict=True))
    by_cpu = ""
    if ours[0][1] is not None:
        mine_cpu, other_cpu = (statistics.median(cpu for _, cpu in s) for s in (ours, theirs))
        by_cpu = f"{mine_cpu / other_cpu:.2f}x"
    wanted = f"{row.wanted:.1f}x" if row.wanted else ""
    print(
        f"{row.name:<52}{mine:>9.2f}{other:>9.2f} {row.unit:<9}{mine / other:>7.2f}x"
        f"{ratios[0]:>8.2f}-{ratios[-1]:.2f}x{by_cpu:>9}{wanted:>8}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    title = f"{'':<52}{'imgcls':>9}{'other':>9} {'':<9}{'ratio':>8}{'each round':>14}{'CPU':>9}"
    print(f"{title}{'wanted':>8}")
    with tempfile.TemporaryDirectory() as folder:
        folders = make_pictures(Path(folder))
        for part in chosen.parts or PARTS:
            for row in PARTS[part](folders):
                measure(row, chosen.rounds)
    for ours, given in answers.items():
        if ours.startswith("imgcls"):
            theirs = answers[f"timm {ours.removeprefix('imgcls ').rpartition(' ')[0]} off"]
            same = np.mean(np.equal(given, theirs))
            print(f"same top-1 as timm, {ours.rpartition('/')[2]}: {same:.1%} of {len(given)}")
    for which, runs in losses.items():
        print(f"losses, {which}: {' '.join(f'{v:.3f}' for v in np.mean(runs, axis=0))}")


if __name__ == "__main__":
    main()
