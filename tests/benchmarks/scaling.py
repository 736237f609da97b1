"""What `examples/scaling.py` computes with, measured on one machine without a GPU.

    python tests/benchmarks/scaling.py [PART ...] [--save examples/scaling.json]

loading: seconds of a core for a JPEG of ImageNet-21k's mean size, decoded whole, and by imgcls's
loaders up to normalised batches. step: imgcls's updates with nothing to load. all_reduce: gloo, two
processes over loopback. checkpoint: copy, write and hash of imgcls's folders. merge: scores of two
processes, gathered, put in order and written once. table: opening and shuffling rows. Each part
says what its figures are; with --save those of parts that were not run stay as they were.

Loading, steps, tables and what is computed go by seconds of the processor, so that other work on
the machine counts little; disk and loopback by the clock, as the best of some repeats, which other
work can only lengthen. The machine's load average is kept beside each part.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from two_processes import CLASSES, best_s, in_two_processes

HERE = Path(__file__).parent
# of ImageNet-21k, whose files have 91.6 kB on average: 1.3 TB
PICTURES = 14_197_122
MODELS = ("mobilenetv3_small_100", "resnet50", "vit_base_patch16_224", "vit_large_patch16_224")
STEPPED = ("mobilenetv3_small_100", "resnet18")
Figures = dict[str, Any]


def loading(folder: Path) -> Figures:
    """JPEGs of 500 x 375 pixels as large as ImageNet-21k's files are on average."""
    from imgcls.data.open import open_source

    place = folder / "photos"
    mean_bytes = make_photos(place, 128)
    images = open_source(str(place)).images
    whole_s = best_s(lambda: [images.open(row).load() for row in range(64)], 3, time.process_time)
    figures = {"mean_bytes": mean_bytes, "decode_whole_per_core": 64 / whole_s}
    for option in ("eval", "train"):
        found = side("loading", place, "resnet18", option)
        figures[f"{option}_batches_per_core"] = found["images_per_cpu_sec"]
    return figures


def make_photos(place: Path, count: int) -> float:
    """Crops of two photographs with noise, as JPEGs of quality 94; their mean size in bytes."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    sizes = []
    for label, pixels in enumerate(load_sample_images().images):
        (place / str(label)).mkdir(parents=True)
        for index in range(count // 2):
            left, top = rng.integers(0, 60), rng.integers(0, 40)
            box = (left, top, left + 560, top + 380)
            crop = Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC, box)
            grain = rng.integers(-7, 8, (375, 500, 1), np.int16)
            noisy = np.clip(np.asarray(crop, np.int16) + grain, 0, 255).astype(np.uint8)
            file = place / str(label) / f"{index:03d}.jpg"
            Image.fromarray(noisy).save(file, quality=94)
            sizes.append(file.stat().st_size)
    return statistics.mean(sizes)


def side(kind: str, folder: Path, model: str, option: str) -> dict[str, Any]:
    command = [sys.executable, str(HERE / "sides.py"), kind, "imgcls", str(folder), model, option]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout)


def step(folder: Path) -> Figures:
    """Updates with AdamW in float32; and the parameters of models with ImageNet-21k's classes."""
    import timm

    place = folder / "photos"
    if not place.exists():
        make_photos(place, 128)
    figures: Figures = {"pictures_per_core_s": {}, "parameters": {}, "classifier_parameters": {}}
    for model in STEPPED:
        found = side("synthetic", place, model, "off")
        figures["pictures_per_core_s"][model] = found["images_per_cpu_sec"]
    for name in MODELS:
        model = timm.create_model(name, num_classes=CLASSES)
        head = model.get_classifier()
        figures["parameters"][name] = sum(p.numel() for p in model.parameters())
        figures["classifier_parameters"][name] = sum(p.numel() for p in head.parameters())
    return figures


def all_reduce(_folder: Path) -> Figures:
    """Seconds of one all-reduce by its bytes; bf16: of half as many, and of casting both ways.

    bandwidth: 2 (N - 1) / N bytes over the time, as nccl-tests have it, of the largest size.
    """
    found = in_two_processes("reduce")
    times = {int(size): seconds for size, seconds in found["seconds"].items()}
    largest = max(times)
    return {
        "processes": 2,
        "seconds": found["seconds"],
        "latency_s": times[min(times)],
        "bandwidth_bytes_per_s": largest / times[largest],
        "bf16_all_reduce_s": found["bf16_all_reduce_s"],
        "bf16_cast_s": found["bf16_cast_s"],
        "bf16_of_bytes": largest,
    }


def checkpoint(folder: Path) -> Figures:
    """resnet50 with 21,841 classes and AdamW's moments, as each checkpoint of its training.

    copy: what training waits for. write: files, hashes and fsync. verify: what a resume reads.
    """
    import shutil

    import timm
    import torch

    from imgcls.engine.checkpoint.folder import read_checkpoint, save_checkpoint, take_snapshot
    from imgcls.engine.training.optim import OptimizerState
    from imgcls.results.checkpoint import Sidecar
    from imgcls.storage.model_folder import seal

    model = timm.create_model("resnet50", num_classes=CLASSES)
    optimizer = torch.optim.AdamW(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    sidecar = Sidecar(class_names=tuple(map(str, range(CLASSES))))
    saved = folder / "step-00000001"

    def copy():
        state = {"optimizer": OptimizerState(optimizer).state_dict()}
        return take_snapshot(model, {"architecture": "resnet50"}, sidecar, state)

    snapshot = copy()

    def write():
        shutil.rmtree(saved, ignore_errors=True)
        save_checkpoint(snapshot, saved)

    copy_s, write_s = best_s(copy), best_s(write, 5)
    size = sum(file.stat().st_size for file in saved.iterdir())
    hash_s = sum(
        best_s(lambda file=file: seal(file), 3, time.process_time) for file in saved.iterdir()
    )
    verify_s = best_s(lambda: read_checkpoint(saved, to_resume=True), 3)
    return {
        "bytes": size,
        "copy_bytes_per_s": size / copy_s,
        "write_bytes_per_s": size / write_s,
        "hash_bytes_per_core_s": size / hash_s,
        "verify_bytes_per_s": size / verify_s,
    }


def merge(folder: Path) -> Figures:
    """4,000 x 21,841 logits: gathered in process 0, put in order by their numbers, written once."""
    found = in_two_processes("merge", str(folder))
    return {name: found["bytes"] / found[f"{name}_s"] for name in ("gather", "order", "write")}


def table(folder: Path) -> Figures:
    """A .csv of 100,000 rows and their files, empty, and the order of an epoch of all 14.2 million.

    pickle: what each other process gets where the first one opens the table for all.
    """
    import psutil

    from imgcls.data.loading.sampling import EpochSampler
    from imgcls.data.open import open_source

    rows, root = 100_000, folder / "rows"
    names = [f"n{row % 1000:08d}/n{row % 1000:08d}_{row}.JPEG" for row in range(rows)]
    for label in range(1000):
        (root / f"n{label:08d}").mkdir(parents=True)
    for name in names:
        (root / name).touch()
    lines = [f"{name},{name.partition('/')[0]}" for name in names]
    (root / "rows.csv").write_text("\n".join(["path,label", *lines]))
    process, opened = psutil.Process(), []
    before = process.memory_info().rss
    file = str(root / "rows.csv")
    open_s = best_s(lambda: opened.append(open_source(file)), 1, time.process_time)
    more_bytes = process.memory_info().rss - before
    stream = io.BytesIO()
    pickle_s = best_s(lambda: pickle.dump(opened[0], stream), 1, time.process_time)
    sampler = EpochSampler(
        PICTURES, batch_size=4096, grad_accum=1, seed=0, even_batches=False
    )  # fmt: skip
    shuffle_s = best_s(lambda: next(iter(sampler.micro_batches(0))), 3, time.process_time)
    return {
        "open_rows_per_s": rows / open_s,
        "bytes_per_row": more_bytes / rows,
        "pickle_bytes_per_row": stream.tell() / rows,
        "pickle_rows_per_s": rows / pickle_s,
        "shuffle_s": shuffle_s,
    }


PARTS = {part.__name__: part for part in (loading, step, all_reduce, checkpoint, merge, table)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--save", type=Path, help="a JSON file for examples/scaling.py")
    chosen = parser.parse_args()
    figures: Figures = {}
    if chosen.save and chosen.save.exists():
        figures = json.loads(chosen.save.read_text(encoding="utf-8"))
    for name in chosen.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            found = PARTS[name](Path(folder))
        when = datetime.now(timezone.utc).date().isoformat()
        load = os.getloadavg()[0]
        figures[name] = {"measured": when, "load": round(load, 1), **rounded(found)}
        print(json.dumps({name: figures[name]}, indent=2), flush=True)
        if chosen.save:
            chosen.save.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """Four digits of each float: more would not be the same another time."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
