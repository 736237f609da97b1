"""Compare imgcls with timm's recipe and with logistic regression, on equal terms.

    python make_sets.py sets --debs .
    python compare.py sets --weights tf_efficientnet_lite0.safetensors

Every contestant gets the same pictures, split, model, weights and input size. timm's recipe trains
for as long as imgcls's default did. Finished runs are kept in WORK/results.jsonl: started again,
it goes on. The tables come last.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import Results, table

DEFAULT, HEAD, TIMM = "imgcls", "imgcls --tune head", "timm's recipe"
LOGISTIC, LOGISTIC_CHOSEN = "logistic regression", "logistic regression, C by val"
C_GRID = tuple(10.0 ** (exponent / 2) for exponent in range(-6, 3))
# of a set without folders train/ and test/: much to test on, so that the scores are worth reading
TEST_SHARE, VAL_SHARE = 0.55, 0.12


@dataclass(frozen=True)
class Task:
    """What all contestants are given: the table of pictures, the model, and a seed."""

    data: Path
    out: Path
    model: str
    weights: Path
    img_size: int
    seed: int


def pictures_of(folder: Path) -> list[tuple[Path, str, str | None]]:
    """(file, class, split) of an image folder; the split is None where it is to be chosen."""
    test = folder / "test"
    parts = [(folder / "train", None), (test, "test")] if test.is_dir() else [(folder, None)]
    return [
        (file, label.name, split)
        for part, split in parts
        for label in sorted(part.iterdir())
        for file in sorted(label.iterdir())
    ]


def write_split(folder: Path, seed: int, file: Path) -> None:
    """The set as a table of path, label, split: stratified, by a hash of seed and name."""
    by_class = defaultdict(list)
    rows = []
    pictures = pictures_of(folder)
    given = any(split for _, _, split in pictures)
    for path, label, split in pictures:
        if split is None:
            by_class[label].append(path)
        else:
            rows.append((path, label, split))
    for label, paths in by_class.items():
        paths.sort(key=lambda path: hashlib.sha256(f"{seed}/{label}/{path.name}".encode()).digest())
        tests = 0 if given else max(1, round(TEST_SHARE * len(paths)))
        vals = tests + max(1, round(VAL_SHARE * len(paths)))
        for number, path in enumerate(paths):
            split = "test" if number < tests else "val" if number < vals else "train"
            rows.append((path, label, split))
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(("path", "label", "split"))
        writer.writerows((path.absolute(), label, split) for path, label, split in rows)


def run_imgcls(task: Task, *options: str) -> dict[str, Any]:
    """`imgcls train` and `imgcls evaluate`, as a user types them."""
    imgcls = (sys.executable, "-m", "imgcls")
    begun = child_seconds()
    train = [
        *imgcls, "train", str(task.data), "--model", task.model, "--weights", str(task.weights),
        "--img-size", str(task.img_size), "--seed", str(task.seed), "--device", "cpu",
        "--output", str(task.out), "--json", *options,
    ]  # fmt: skip
    trained = json.loads(output_of(train))
    seconds = child_seconds() - begun
    evaluate = [*imgcls, "evaluate", trained["run"], "--split", "test", "--no-report", "--json"]
    metrics = json.loads(output_of(evaluate))["metrics"]
    scores = {name: metrics[name] for name in ("balanced_accuracy", "f1_macro", "nll")}
    fold = trained["folds"][0]
    return {**scores, "cpu_s": seconds, "epochs": fold["epochs_run"], "best": fold["best_epoch"]}


def output_of(command: list[str]) -> str:
    """What a command prints. Ends the comparison where the command fails, having said why."""
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603  our own words and the user's files
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}")
    return done.stdout


def child_seconds() -> float:
    """Processor seconds of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_timm(task: Task, budget: dict[str, Any] | None) -> dict[str, Any]:
    """timm's recipe, for as long as the given run of imgcls's default took."""
    from baselines import train_by_timm

    if budget is None:
        raise SystemExit(f"{TIMM} trains for as long as {DEFAULT} did: run that one too")
    return train_by_timm(task, budget["cpu_s"])


def run_logistic(task: Task, *grid: float) -> dict[str, Any]:
    """scikit-learn's logistic regression on timm's features."""
    from baselines import fit_logistic_regression

    return fit_logistic_regression(task, grid)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="the folder with the sets")
    parser.add_argument("--weights", type=Path, required=True, help="safetensors of the model")
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--img-size", type=int, default=96)
    parser.add_argument("--work", type=Path, default=Path("outputs/compare"))
    parser.add_argument("--sets", nargs="+", help="all by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    contestants = (DEFAULT, HEAD, TIMM, LOGISTIC, LOGISTIC_CHOSEN)
    parser.add_argument("--contestants", nargs="+", default=contestants, choices=contestants)
    args = parser.parse_args()
    results = Results(args.work / "results.jsonl", ("set", "seed", "contestant"))
    sets = args.sets or sorted(path.name for path in args.root.iterdir() if path.is_dir())
    # seeds in the outer loop: what is there after an hour already covers all sets
    for seed, name in ((seed, name) for seed in args.seeds for name in sets):
        out = args.work / f"{name}-{seed}"
        data = out / "data.csv"
        if not data.exists():
            write_split(args.root / name, seed, data)
        task = Task(data, out, args.model, args.weights.absolute(), args.img_size, seed)
        ways: dict[str, Callable[[], dict[str, Any]]] = {
            DEFAULT: lambda task=task: run_imgcls(task),
            HEAD: lambda task=task: run_imgcls(task, "--tune", "head"),
            TIMM: lambda task=task, key=(name, seed, DEFAULT): run_timm(task, results.find(*key)),
            LOGISTIC: lambda task=task: run_logistic(task, 1.0),
            LOGISTIC_CHOSEN: lambda task=task: run_logistic(task, *C_GRID),
        }
        for contestant in args.contestants:
            if results.find(name, seed, contestant) is None:
                start = time.monotonic()
                scores = ways[contestant]()
                wall_s = round(time.monotonic() - start, 1)
                results.add(name, seed, contestant, **scores, wall_s=wall_s)
                print(name, seed, contestant, json.dumps(scores), file=sys.stderr, flush=True)
    for name in sets:
        rows = [row for row in results.rows if row["set"] == name]
        rows.sort(key=lambda row: contestants.index(row["contestant"]))
        print(f"\n### {name}\n\n{table(rows, 'contestant', DEFAULT)}")


if __name__ == "__main__":
    main()
