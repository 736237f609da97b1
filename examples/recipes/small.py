"""Is the default worth its time on a small set: 20 sets of 500 emoji in 14 classes.

    python make_sets.py sets --packages .
    python small.py sets/draws --weights tf_efficientnet_lite0.safetensors

imgcls's default, its head alone and logistic regression on the same draws, 350 pictures to train on
and 75 for val; 740 test. Finished runs are kept in WORK/results.jsonl: started again, it goes on.
The table comes last.
"""

from __future__ import annotations

import argparse
import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from compare import DEFAULT, HEAD, PROBE, Job, do, probabilities_file
from results import Results
from sklearn.metrics import balanced_accuracy_score

CONTESTANTS = (DEFAULT, HEAD, PROBE)


def absolute_table(draw: Path, file: Path) -> None:
    """The table of a draw with paths that hold from anywhere."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with draw.open(newline="", encoding="utf-8") as table, file.open("w", newline="") as out:
        rows = csv.DictReader(table)
        writer = csv.DictWriter(out, rows.fieldnames or ())
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "path": (draw.parent / row["path"]).absolute()})


def accuracies(work: Path, name: str, contestant: str, seeds: Sequence[int]) -> np.ndarray:
    """Balanced accuracy in percent of each seed: float64 [S]."""
    found = []
    for seed in seeds:
        with np.load(probabilities_file(work, name, seed, contestant)) as file:
            labels, predicted = file["test_labels"], file["test"].argmax(axis=1)
        found.append(100 * balanced_accuracy_score(labels, predicted))
    return np.array(found)


def table(scores: Mapping[str, np.ndarray]) -> str:
    """Markdown: mean and standard deviation over the seeds, and the default's lead over each."""
    lines = [
        f"| contestant | balanced accuracy | {DEFAULT} minus it | lowest | over 1 point below |",
        "|---|---|---|---|---|",
    ]
    for name, own in scores.items():
        spread = own.std(ddof=1) if len(own) > 1 else 0.0
        lead = scores[DEFAULT] - own
        compared = f"{lead.mean():+.1f} | {lead.min():+.1f} | {(lead < -1).sum()} of {len(lead)}"
        cells = " | | " if name == DEFAULT else compared
        lines.append(f"| {name} | {own.mean():.1f} ± {spread:.1f} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("draws", type=Path, help="the folder with draw-00.csv and so on")
    parser.add_argument("--weights", type=Path, required=True, help="safetensors of the model")
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--img-size", type=int, default=96)
    parser.add_argument("--work", type=Path, default=Path("outputs/small"))
    parser.add_argument("--seeds", nargs="+", type=int, default=range(20))
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    args = parser.parse_args()
    args.budget_s = None
    os.environ["OMP_NUM_THREADS"] = "1"
    results = Results(args.work / "results.jsonl", ("set", "fold", "contestant"))
    name = args.draws.name
    jobs = []
    for seed in args.seeds:
        data = args.work / "folds" / f"{name}-{seed}.csv"
        absolute_table(args.draws / f"draw-{seed:02d}.csv", data)
        for contestant in CONTESTANTS:
            if results.find(name, seed, contestant) is None:
                job = Job(
                    name, seed, contestant, data, args.work, args.model,
                    args.weights.absolute(), args.img_size,
                )  # fmt: skip
                jobs.append(job)
    do(jobs, args, results)
    print(table({one: accuracies(args.work, name, one, args.seeds) for one in CONTESTANTS}))


if __name__ == "__main__":
    main()
