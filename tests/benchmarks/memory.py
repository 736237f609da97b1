"""The memory that `imgcls train` announces and takes: `python tests/benchmarks/memory.py`.

    python tests/benchmarks/memory.py [--models NAME,...] [--batch-sizes N,...] [OPTION ...]

Each row is a training of two epochs on 64 pictures of 224 pixels on the CPU, in a process of its
own. It begins with a file of random weights, so that the classifier is fitted first and weights are
averaged; OPTIONs are handed to `imgcls train`. The peak is that of the process (VmHWM) until it
prints its result: at their end processes touch 100 MiB more of their libraries. Linux only.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import timm
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

MODELS = (
    *("resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_100", "convnext_atto"),
    "vit_tiny_patch16_224",
)
BATCH_SIZES = (8, 32)
SPLITS = {"train": 32, "val": 12, "test": 4}  # pictures of each of two classes
WANTED = 0.15
_ANNOUNCED = re.compile(r"Memory +about ([\d,]+) MiB of the process at its peak \((.*)\)")


def make_table(folder: Path) -> Path:
    """Crops of scikit-learn's two photographs, and a table that says their split."""
    rng = np.random.default_rng(0)
    rows = []
    for label, photo in enumerate(load_sample_images().images):
        for split, count in SPLITS.items():
            for index in range(count):
                top, left = rng.integers(0, 128), rng.integers(0, 340)
                file = folder / f"{label}-{split}-{index}.jpg"
                Image.fromarray(photo[top : top + 299, left : left + 299]).save(file)
                rows.append((file.name, label, split))
    table = folder / "table.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return table


def train(table: Path, model: str, batch_size: int, options: list[str]) -> tuple[int, str, float]:
    """(MiB announced, how they are known, MiB at the peak) of one training."""
    weights = table.parent / f"{model}.safetensors"
    if not weights.exists():
        save_file(timm.create_model(model).state_dict(), weights)
    command = [sys.executable, "-m", "imgcls", "train", table.name, "--model", model]
    where = ("--weights", weights.name, "--device", "cpu", "--output", "outputs")
    size = ("--img-size", "224", "--batch-size", str(batch_size), "--epochs", "2")
    process = subprocess.Popen(
        [*command, *where, *size, *options],
        cwd=table.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    log: list[str] = []
    result: list[str] = []
    readers = [
        threading.Thread(target=lines.extend, args=(stream,))
        for lines, stream in ((log, process.stderr), (result, process.stdout))
    ]
    for reader in readers:
        reader.start()
    peak_kib = 0
    while not result and process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        peak_kib = max([peak_kib, *map(int, re.findall(r"VmHWM:\s+(\d+)", status))])
        time.sleep(0.02)
    for reader in readers:
        reader.join()
    announced = next(filter(None, map(_ANNOUNCED.search, log)), None)
    if process.wait() or announced is None:
        sys.exit("".join(log))
    return int(announced[1].replace(",", "")), announced[2], peak_kib / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batch-sizes", default=",".join(map(str, BATCH_SIZES)))
    chosen, options = parser.parse_known_args()
    os.environ["PYTHONWARNINGS"] = "ignore"
    print(f"{'model':<24}{'batch':>6}{'announced':>11}{'peak':>8}{'':>8}  how it is known")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        table = make_table(Path(folder))
        for model in chosen.models.split(","):
            for batch_size in map(int, chosen.batch_sizes.split(",")):
                announced, known_by, peak = train(table, model, batch_size, options)
                beside = announced / peak - 1
                worst = max(worst, abs(beside))
                figures = f"{announced:>11,}{peak:>8,.0f}{beside:>+8.1%}  {known_by}"
                print(f"{model:<24}{batch_size:>6}{figures}", flush=True)
    print(f"furthest from the peak: {worst:.1%}, wanted at most {WANTED:.0%}")
    sys.exit(worst > WANTED)


if __name__ == "__main__":
    main()
