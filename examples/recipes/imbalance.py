"""Compare the methods of --imbalance on the digits with a long tail.

    python imbalance.py

Of scikit-learn's digits a third of each class is for the test; of the rest, class k keeps a share
of 50 ** (-k / 9). A small model from scratch, the same split, epochs and seeds for each method.
Finished runs are kept in WORK/results.jsonl: started again, it goes on. The table comes last.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image
from results import Results
from sklearn.datasets import load_digits

import imgcls
from imgcls.config.recipe import Imbalance

METHODS = get_args(Imbalance)
SCORES = ("balanced_accuracy", "f1_macro", "nll")
IMBALANCE_FACTOR, VAL_SHARE = 50, 0.12


def draw_digits(folder: Path) -> list[tuple[Path, str, bool]]:
    """(file, class, whether it is for the test) of each picture, which it writes."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    generator = np.random.default_rng(0)
    drawn = []
    for label in range(10):
        rows = generator.permutation(np.flatnonzero(digits.target == label))
        test, rest = np.split(rows, [len(rows) // 3])
        kept = rest[: max(2, round(len(rest) * IMBALANCE_FACTOR ** (-label / 9)))]
        for row in (*test, *kept):
            file = folder / f"{row:04d}.png"
            pixels = Image.fromarray((digits.images[row] * 15.9).astype(np.uint8))
            pixels.resize((32, 32), Image.Resampling.BICUBIC).convert("RGB").save(file)
            drawn.append((file, str(label), row in test))
    return drawn


def write_split(pictures: Sequence[tuple[Path, str, bool]], seed: int, file: Path) -> None:
    """A table of path, label, split; of each class, val is drawn by a hash of seed and name."""
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(("path", "label", "split"))
        for label in sorted({label for _, label, _ in pictures}):
            own = [(path, test) for path, of, test in pictures if of == label]
            writer.writerows((path.absolute(), label, "test") for path, test in own if test)
            paths = [path for path, test in own if not test]
            paths.sort(
                key=lambda path: hashlib.sha256(f"{seed}/{label}/{path.name}".encode()).digest()
            )
            vals = max(1, round(VAL_SHARE * len(paths)))
            for number, path in enumerate(paths):
                writer.writerow((path.absolute(), label, "val" if number < vals else "train"))


def train(
    data: Path, out: Path, method: str, args: argparse.Namespace, seed: int
) -> dict[str, float]:
    """The scores on test of the last epoch: no method is helped by a lucky choice of epoch."""
    config = imgcls.TrainConfig.model_validate(
        {
            "data": {"source": str(data), "preflight": False},
            "model": {"name": args.model, "pretrained": False, "img_size": 32},
            "recipe": {"imbalance": method},
            "optim": {"epochs": args.epochs},
            "augment": {"preset": "light", "scale": 0.8, "hflip": 0.0},
            "early_stopping": {"patience": 0},
            "runtime": {"seed": seed, "device": "cpu", "workers": 0, "output": str(out)},
        }
    )
    begun = time.process_time()
    fold = imgcls.Trainer.begin(config).train_fold(0)
    seconds = time.process_time() - begun
    report = imgcls.evaluate(imgcls.EvaluateConfig(checkpoint=fold.last_checkpoint, report=False))
    return {**{name: report.metrics[name] for name in SCORES}, "cpu_s": seconds}


def table(rows: Sequence[dict[str, Any]], column: str, baseline: str) -> str:
    """A Markdown table of mean and standard deviation over seeds for each value of `column`.

    Accuracy and F1 in percent; the processor time is the seeds' median. The last column has the
    differences in balanced accuracy to `baseline`, seed by seed: both saw the same pictures.
    """
    lines = [
        f"| {column} | seeds | balanced accuracy | macro F1 | NLL | processor | to {baseline} |",
        "|---|---|---|---|---|---|---|",
    ]
    reference = {row["seed"]: row for row in rows if row[column] == baseline}
    for name in dict.fromkeys(row[column] for row in rows):
        own = sorted((row for row in rows if row[column] == name), key=lambda row: row["seed"])
        cells = [name, str(len(own))]
        for score in SCORES:
            values = np.array([row[score] for row in own])
            scale, digits = (1, 2) if score == "nll" else (100, 1)
            spread = values.std(ddof=1) if len(values) > 1 else 0.0
            cells.append(f"{values.mean() * scale:.{digits}f} ± {spread * scale:.{digits}f}")
        cells.append(f"{np.median([row['cpu_s'] for row in own]):.0f} s")
        gains = [
            100 * (row["balanced_accuracy"] - reference[row["seed"]]["balanced_accuracy"])
            for row in own
            if row["seed"] in reference
        ]
        cells.append("" if name == baseline else ", ".join(f"{gain:+.1f}" for gain in gains))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="test_resnet")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--work", type=Path, default=Path("outputs/imbalance"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    results = Results(args.work / "results.jsonl", ("method", "seed"))
    pictures = draw_digits(args.work / "digits")
    for seed in args.seeds:
        data = args.work / f"{seed}.csv"
        write_split(pictures, seed, data)
        for method in METHODS:
            if results.find(method, seed) is None:
                scores = train(data, args.work / "runs", method, args, seed)
                results.add(method, seed, **scores)
                print(method, seed, json.dumps(scores), file=sys.stderr, flush=True)
    print(table(results.rows, "method", "none"))


if __name__ == "__main__":
    main()
