"""How many pictures of a class that a model was not trained on are flagged, and by what.

    python tests/benchmarks/unknown_class.py WORK --weights tf_efficientnet_lite0.safetensors \
        --emoji EMOJI

Sets as in picture_sets.py. On each a model is trained by `imgcls train` and its default recipe,
without three of the classes. All scores flag 5% of the test pictures of the classes
that the model knows; the table is the share of each unknown class's pictures that are flagged then.
The model's own features and those of the backbone before it was fine-tuned are those that the
classifier is given after the last and before the first epoch.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from picture_sets import digits, emoji, letters, write_table
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score
from trained import RECIPE, class_names, epochs, rows_of, said, train

from imgcls.metrics.calibration import fit_temperature
from imgcls.metrics.novelty import fit_statistics, held_out_class_detection, novelty_threshold
from imgcls.metrics.predictions import Softmax

RATE = 0.05
WITHOUT = {
    "digits": ("0", "4", "7"),
    "letters": ("A", "K", "S"),
    "emoji": ("animal-mammal", "food-prepared", "time"),
}
SHARES = {"digits": (0.5, 0.2), "letters": (0.4, 0.2), "emoji": (0.4, 0.15)}
SCORES = ("softmax", "unlike", "backbone", "both, concatenated", "both, the larger rank")


def scores_of(table: Path, fold: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(the table's columns and what they say of the rows, each score of each row)."""
    rows = rows_of(table)
    best = (fold / "checkpoints" / "best").resolve()
    own, untouched = said(best, table), said(epochs(fold)[0], table)
    names = class_names(best)
    labels = np.array([names.index(label) for label in rows["label"]])
    known = np.isin(rows["class"], names)
    train, val = rows["split"] == "train", rows["split"] == "val"
    temperature = fit_temperature(own.logits[val], labels[val]).temperature
    features = {
        "unlike": own.features,
        "backbone": untouched.features,
        "both, concatenated": np.concatenate([unit(own.features), unit(untouched.features)], 1),
    }
    found = {"softmax": -Softmax(own.logits, temperature)[:].max(axis=1)}
    for name, values in features.items():
        statistics = fit_statistics(values[train], labels[train], len(names))
        found[name] = statistics.distances(values)
    ranks = [np.searchsorted(np.sort(found[n][val]), found[n]) for n in ("unlike", "backbone")]
    # far beyond all val pictures they still differ
    ties = sum(rankdata(found[n]) for n in ("unlike", "backbone")) / (2 * len(labels) + 1)
    found["both, the larger rank"] = np.maximum(*ranks) + ties
    units = np.unique(rows["group"], return_inverse=True)[1] if rows["group"].any() else None
    units = np.arange(len(labels)) if units is None else units
    threshold = novelty_threshold(found["unlike"][val], RATE, units[val])
    estimate = held_out_class_detection(
        own.features[train], labels[train], own.features[val], labels[val], RATE, units=units[val]
    )
    test = known & (rows["split"] == "test")
    facts = {
        "best": best.name,
        "class": rows["class"],
        "known": test,
        "accuracy": (own.logits.argmax(axis=1) == labels)[test].mean(),
        "alarms": (found["unlike"][test] > threshold).mean(),
        "estimate": estimate.flagged.mean(),
        "caught": (found["unlike"][~known] > threshold).mean(),
    }
    return facts, found


def unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def flagged(score: np.ndarray, known: np.ndarray, unknown: np.ndarray) -> tuple[float, float]:
    """(share of the unknown flagged where RATE of the known are, ROC AUC)."""
    threshold = np.quantile(score[known], 1 - RATE)
    both = known | unknown
    return (score[unknown] > threshold).mean(), roc_auc_score(unknown[both], score[both])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="where sets, runs and features are kept")
    parser.add_argument("--weights", type=Path, required=True, help="ImageNet's, safetensors")
    parser.add_argument("--emoji", type=Path, required=True)
    chosen = parser.parse_args()
    pictures = {"digits": digits, "letters": letters, "emoji": partial(emoji, chosen.emoji)}
    print(f"| set | without | {' | '.join(SCORES)} |\n|{'---|' * (2 + len(SCORES))}")
    notes = []
    for name, make in pictures.items():
        without = WITHOUT[name]
        table = write_table(make(), SHARES[name], chosen.work / f"{name}-unknown", without)
        options = (*RECIPE, "--weights", chosen.weights, "--keep", "all")
        facts, scores = scores_of(table, train(table, table.stem.removeprefix("table-"), options))
        cells = []
        for label in without:
            unknown = facts["class"] == label
            cells.append([flagged(scores[s], facts["known"], unknown) for s in SCORES])
            shares = " | ".join(f"{share:.0%}" for share, _ in cells[-1])
            print(f"| {name} | {label} | {shares} |", flush=True)
        notes.append(
            f"{name}: accuracy {facts['accuracy']:.1%}, best step {facts['best']}; by val's "
            f"threshold {facts['alarms']:.1%} false alarms and {facts['caught']:.0%} of the "
            f"unknown flagged, where classes left out in turn promised {facts['estimate']:.0%}"
        )
        means = np.mean(cells, axis=0)
        print(f"| {name} | mean | {' | '.join(f'{share:.0%}' for share, _ in means)} |")
        print(
            f"| {name} | ROC AUC | {' | '.join(f'{area:.3f}' for _, area in means)} |", flush=True
        )
    print("\n".join(notes))


if __name__ == "__main__":
    main()
