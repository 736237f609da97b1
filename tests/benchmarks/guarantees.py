"""What the promises of --sets, --max-error and --unlike come to, over resamples of val and test.

    npm pack emoji-datasource-twitter emoji-datasource-google   # unpack into EMOJI/{twitter,google}
    python tests/benchmarks/guarantees.py WORK --weights tf_efficientnet_lite0.safetensors \
        --emoji EMOJI

Two models are trained by `imgcls train`: a small one from scratch on long-tailed digits, and the
default recipe on emoji, whose two drawings of each are a group. Each then scores all pictures that
it was not trained on, after each epoch. These are divided 200 times, within each class and by whole
groups, into val (40%) and test. Val chooses the epoch and the temperature, as in training, and then
fits everything; test tells how often it holds. The last line of a set is without that choice.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from picture_sets import digits, emoji, write_table
from trained import RECIPE, Said, class_names, epochs, rows_of, said, train

from imgcls.metrics.calibration import fit_temperature
from imgcls.metrics.conformal import fit_sets
from imgcls.metrics.novelty import fit_statistics, novelty_threshold
from imgcls.metrics.predictions import Predictions, cross_entropies
from imgcls.metrics.selective import fit_answer_threshold

RESAMPLES = 200
COVERAGE, FALSE_ALARMS = 0.9, 0.05
MAX_ERRORS = (0.05, 0.1, 0.2)
SETS = (
    "pictures", "val", "accuracy", "coverage", "macro coverage", "mean size",
    "classes with an own threshold", "`unlike`",
)  # fmt: skip
ANSWERS = ("pictures", "`--max-error`", "answers at all", "answered", "wrong of these", "broken")


@dataclass(frozen=True, eq=False)
class Pool:
    """Pictures that a model was not trained on, and what each epoch's checkpoint says of them."""

    labels: np.ndarray
    units: np.ndarray
    prevalence: np.ndarray
    logits: list[np.ndarray]
    distances: list[np.ndarray]


def pool_of(fold: Path, table: Path) -> Pool:
    rows, checkpoints = rows_of(table), epochs(fold)
    names = class_names(checkpoints[0])
    labels = np.array([names.index(label) for label in rows["label"]])
    _, units = np.unique(
        [group or path for group, path in zip(rows["group"], rows["path"], strict=True)],
        return_inverse=True,
    )
    known = rows["split"] == "train"
    shares = np.bincount(labels[known]) / known.sum()
    logits, distances = [], []
    for checkpoint in checkpoints:
        found: Said = said(checkpoint, table)
        statistics = fit_statistics(found.features[known], labels[known], len(names))
        logits.append(found.logits[~known])
        distances.append(statistics.distances(found.features[~known]))
    return Pool(labels[~known], units[~known], shares, logits, distances)


def divide(pool: Pool, seed: int, share: float) -> np.ndarray:
    """Which pictures are val: of each class's units a share, at least one; bool [N]."""
    rng = np.random.default_rng(seed)
    val = np.zeros(len(pool.labels), bool)
    for label in np.unique(pool.labels):
        units = rng.permutation(np.unique(pool.units[pool.labels == label]))
        val |= np.isin(pool.units, units[: max(1, round(share * len(units)))])
    return val


def outcome(pool: Pool, seed: int, share: float, *, chosen: bool) -> dict[str, float]:
    """One resample. chosen: val chooses epoch and temperature; else the last, and 1."""
    val = divide(pool, seed, share)
    test = ~val
    units = None if len(np.unique(pool.units)) == len(pool.units) else pool.units[val]
    epoch, temperature = len(pool.logits) - 1, 1.0
    if chosen:
        losses = [cross_entropies(logits[val], pool.labels[val]).mean() for logits in pool.logits]
        epoch = int(np.argmin(losses))
        fitted = fit_temperature(pool.logits[epoch][val], pool.labels[val], groups=units)
        temperature = fitted.temperature
    keys = tuple(map(str, range(len(val))))
    p = Predictions(keys, pool.logits[epoch], pool.labels, temperature)
    sets = fit_sets(
        p.label_probabilities[val],
        p.labels[val],
        p.predicted[val],
        pool.prevalence,
        COVERAGE,
        units=units,
    )
    members = sets.members(p.probabilities[test])
    inside = members[np.arange(len(members)), p.labels[test]]
    by_class = [inside[p.labels[test] == label].mean() for label in np.unique(p.labels[test])]
    found = {
        "val": len(np.unique(pool.units[val])),
        "accuracy": p.correct[test].mean(),
        "coverage": inside.mean(),
        "macro": np.mean(by_class),
        "size": members.sum(axis=1).mean(),
        "own": sets.own.mean(),
    }
    for max_error in MAX_ERRORS:
        threshold = fit_answer_threshold(
            p.confidences[val], p.correct[val], max_error, units=units
        ).threshold
        answered = p.confidences[test] >= threshold
        error = 1 - p.correct[test][answered].mean() if answered.any() else 0.0
        found |= {
            f"any {max_error}": answered.any(),
            f"answered {max_error}": answered.mean(),
            f"error {max_error}": error if answered.any() else np.nan,
            f"broken {max_error}": error > max_error,
        }
    distances = pool.distances[epoch]
    alarms = distances[test] > novelty_threshold(distances[val], FALSE_ALARMS, units)
    return found | {"alarms": alarms.mean()}


def report(name: str, pool: Pool) -> tuple[list[list[str]], list[list[str]]]:
    """The rows of the tables SETS and ANSWERS."""
    sets, answers = [], []
    for what, share, chosen in (
        (name, 0.4, True),
        (f"{name}, last epoch", 0.4, False),
        (f"{name}, small val", 0.05, True),
    ):
        results = [outcome(pool, seed, share, chosen=chosen) for seed in range(RESAMPLES)]
        by_name = {key: np.array([r[key] for r in results], float) for key in results[0]}
        with np.errstate(invalid="ignore"):
            mean = {key: np.nansum(v) / np.isfinite(v).sum() for key, v in by_name.items()}
        error = by_name["alarms"].std(ddof=1) / math.sqrt(RESAMPLES)
        shares = [f"{mean[key]:.1%}" for key in ("accuracy", "coverage", "macro")]
        last = [f"{mean['size']:.2f}", f"{mean['own']:.0%}", f"{mean['alarms']:.2%} ± {error:.2%}"]
        sets.append([what, f"{mean['val']:.0f}", *shares, *last])
        for m in MAX_ERRORS:
            parts = [f"{mean[f'{key} {m}']:.1%}" for key in ("any", "answered", "error", "broken")]
            answers.append([what, str(m), *(part.replace("nan%", "") for part in parts)])
    return sets, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="where sets, runs and features are kept")
    parser.add_argument("--weights", type=Path, required=True, help="ImageNet's, safetensors")
    parser.add_argument("--emoji", type=Path, required=True)
    chosen = parser.parse_args()
    small = ("--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--epochs", "20")
    recipe = (*RECIPE, "--weights", chosen.weights)
    rows: tuple[list[list[str]], list[list[str]]] = [], []
    for name, pictures, shares, options in (
        ("digits", digits(), (0.3, 0.1), small),
        ("emoji", emoji(chosen.emoji), (0.35, 0.1), recipe),
    ):
        table = write_table(pictures, shares, chosen.work / name)
        fold = train(table, "guarantees", (*options, "--keep", "all"))
        pool = pool_of(fold, table)
        units = len(np.unique(pool.units))
        print(f"{name}: {len(pool.labels)} pictures, {units} units, {len(pool.prevalence)} classes")
        for all_rows, own_rows in zip(rows, report(name, pool), strict=True):
            all_rows.extend(own_rows)
    for title, table_rows in zip((SETS, ANSWERS), rows, strict=True):
        print()
        for row in (title, ["---"] * len(title), *table_rows):
            print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
