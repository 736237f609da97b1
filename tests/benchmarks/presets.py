"""What each `--preset` takes and what it gives: time announced and taken, and scores on test.

    python tests/benchmarks/presets.py WORK --weights tf_efficientnet_lite0.safetensors TABLE...

TABLE: path, label, split, as `examples/recipes/compare.py` writes them (WORK/folds); `best` deals
its folds over what is train and val in it. Each training has one thread. Rows are kept in
WORK/presets.jsonl: started again, it goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

PRESETS = ("fast", "default", "best")
METRICS = ("balanced_accuracy", "nll", "ece")


def answer(*arguments: object) -> Any:
    """What a command prints with --json."""
    command = [sys.executable, "-m", "imgcls", *map(str, arguments), "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout)


def measure(table: Path, preset: str, args: argparse.Namespace) -> dict[str, Any]:
    """One training: seconds announced and taken, and metrics of test."""
    train = (
        "train", table, "--preset", preset, "--model", args.model, "--weights", args.weights,
        "--img-size", args.img_size, "--device", "cpu", "--output", args.work / "runs",
    )  # fmt: skip
    expected_s = answer(*train, "--dry-run")["expected_s"]
    trained = answer(*train)
    folds = [fold for one in (trained, *trained["members"]) for fold in one["folds"]]
    tested = trained["average"] or answer(
        "evaluate", trained["run"], "--split", "test", "--no-report"
    )
    return {
        "table": table.stem,
        "preset": preset,
        "expected_s": expected_s,
        "taken_s": sum(fold["elapsed_s"] for fold in folds),
        **{name: tested["metrics"][name] for name in METRICS},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("tables", type=Path, nargs="+", metavar="TABLE")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--img-size", type=int, default=96)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    file = args.work / "presets.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    for table in args.tables:
        for preset in PRESETS:
            if not any((row["table"], row["preset"]) == (table.stem, preset) for row in rows):
                rows.append(measure(table, preset, args))
                with file.open("a") as stream:
                    stream.write(json.dumps(rows[-1]) + "\n")
    print("| set | preset | announced | taken | balanced accuracy | NLL | ECE |")
    print("|---|---|---|---|---|---|---|")
    for table in [*(table.stem for table in args.tables), "mean"]:
        for preset in PRESETS:
            own = [r for r in rows if r["preset"] == preset and table in (r["table"], "mean")]
            scores = [np.mean([row[name] for row in own]) for name in METRICS]
            announced, taken = (np.mean([row[n] for row in own]) for n in ("expected_s", "taken_s"))
            print(
                f"| {table} | {preset} | {announced:.0f} s | {taken:.0f} s | {scores[0]:.1%} | "
                f"{scores[1]:.3f} | {scores[2]:.1%} |"
            )


if __name__ == "__main__":
    main()
