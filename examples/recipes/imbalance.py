"""Compare the methods of --imbalance on the digits with a long tail.

    python make_sets.py sets --debs .
    python imbalance.py sets/digits

A small model from scratch, the same split, epochs and seeds for each method; the test pictures are
evenly spread over the classes. Finished runs are kept in WORK/results.jsonl: started again, it goes
on. The table comes last.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import get_args

from compare import write_split
from results import SCORES, Results, table

import imgcls
from imgcls.config.recipe import Imbalance

METHODS = get_args(Imbalance)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("digits", type=Path, help="the folder with train/ and test/")
    parser.add_argument("--model", default="test_resnet")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--work", type=Path, default=Path("outputs/imbalance"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    args = parser.parse_args()
    results = Results(args.work / "results.jsonl", ("method", "seed"))
    for seed in args.seeds:
        data = args.work / f"{seed}.csv"
        if not data.exists():
            write_split(args.digits, seed, data)
        for method in METHODS:
            if results.find(method, seed) is None:
                scores = train(data, args.work / "runs", method, args, seed)
                results.add(method, seed, **scores)
                print(method, seed, json.dumps(scores), file=sys.stderr, flush=True)
    print(table(results.rows, "method", "none"))


if __name__ == "__main__":
    main()
