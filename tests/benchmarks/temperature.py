"""How sure fine-tuned weights are, and what few validation pictures tell of it.

    python tests/benchmarks/temperature.py WORK [--contestant imgcls]

WORK: of `examples/recipes/compare.py`, where imgcls has trained on some sets. For each, its val
pictures' temperature when nothing is expected of the weights (and it must help pictures left out of
the fit), the one of training, and the one that the test pictures themselves ask for; behind each
the test's NLL and expected calibration error.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar

from imgcls.metrics.calibration import expected_calibration_error, fit_temperature, reliability_bins
from imgcls.metrics.predictions import Predictions

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "recipes"))
from compare import DEFAULT, probabilities_file
from tables import log_of

SIDES = ("nothing expected", "as training fits it", "what the test asks for")


def scored(logits: np.ndarray, labels: np.ndarray, temperature: float) -> tuple[float, float]:
    """(NLL, ECE in percent)."""
    predictions = Predictions(tuple(map(str, range(len(labels)))), logits, labels, temperature)
    ece = expected_calibration_error(reliability_bins(predictions.outcomes))
    return float(predictions.picture_losses.mean()), 100 * ece


def val_groups(table: Path) -> list[str]:
    """The groups of the val pictures, in the table's order."""
    with table.open(newline="", encoding="utf-8") as file:
        return [row["group"] for row in csv.DictReader(file) if row["split"] == "val"]


def temperatures(
    val: np.ndarray,
    val_labels: np.ndarray,
    groups: list[str],
    test: np.ndarray,
    test_labels: np.ndarray,
) -> list[float]:
    """One for each of SIDES, from logits [N, C]."""
    asked = minimize_scalar(
        lambda log_t: scored(test, test_labels, float(np.exp(log_t)))[0],
        bounds=np.log([0.2, 5]), method="bounded",
    )  # fmt: skip
    return [
        *(
            fit_temperature(val, val_labels, 1.0, groups, fine_tuned=fine_tuned).temperature
            for fine_tuned in (False, True)
        ),
        float(np.exp(asked.x)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--contestant", default=DEFAULT)
    args = parser.parse_args()
    rows = [json.loads(line) for line in (args.work / "results.jsonl").read_text().splitlines()]
    print(f"| set | val, test pictures | {' | '.join(SIDES)} |\n|---|---|{'---|' * len(SIDES)}")
    totals = []
    for row in rows:
        if row["contestant"] != args.contestant:
            continue
        kept = row["temperature"] or 1.0
        with np.load(probabilities_file(args.work, row["set"], row["fold"], args.contestant)) as x:
            val, test = (log_of(x[split]) * kept for split in ("val", "test"))
            val_labels, test_labels = x["val_labels"], x["test_labels"]
        groups = val_groups(args.work / "folds" / f"{row['set']}-{row['fold']}.csv")
        found = temperatures(val, val_labels, groups, test, test_labels)
        scores = [scored(test, test_labels, t) for t in found]
        totals.append(scores)
        cells = [
            f"{t:.2f}: {nll:.3f}, {ece:.1f}%"
            for t, (nll, ece) in zip(found, scores, strict=True)
        ]  # fmt: skip
        sizes = f"{len(val_labels)}, {len(test_labels)}"
        print(f"| {row['set']} {row['fold']} | {sizes} | {' | '.join(cells)} |")
    means = [f"{nll:.3f}, {ece:.1f}%" for nll, ece in np.mean(totals, axis=0)]
    print(f"| mean | | {' | '.join(means)} |")


if __name__ == "__main__":
    main()
