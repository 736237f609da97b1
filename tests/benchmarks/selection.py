"""Which rule finds the weights to keep by few validation pictures, on pictures it has not seen.

    python tests/benchmarks/selection.py WORK --weights tf_efficientnet_lite0.safetensors TABLE...

TABLE: path, label, split, as `examples/recipes/compare.py` writes them (WORK/folds). On each,
`imgcls train` trains once with `--keep all`. All its epochs, and the weights between the first and
the last, then score the test pictures. 200 times 75 of these at random take the part of the
validation pictures: each rule chooses by them, and is scored on the others. So the rules are
compared on many validation sets for the price of one training.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from sklearn.metrics import balanced_accuracy_score
from trained import epochs, train

import imgcls
from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.engine.checkpoint.temperature import read_temperature
from imgcls.engine.training.selection.choice import Validated, first_as_good
from imgcls.engine.training.selection.interpolation import SHARES
from imgcls.engine.training.selection.trackers import MetricTracker
from imgcls.metrics.calculator import validation_metrics
from imgcls.metrics.calibration import fit_temperature
from imgcls.metrics.predictions import Predictions

DRAWS, PICTURES = 200, 75
MONITOR = "val_balanced_accuracy"
_END = "state.interpolation.end."


def trained_weights(folder: Path) -> dict[str, torch.Tensor]:
    """What an epoch ended with, also where weights part of the way were kept in its place."""
    weights = load_file(folder / "model.safetensors")
    with safe_open(folder / "state.safetensors", framework="pt") as state:
        names = [name for name in state.keys() if name.startswith(_END)]  # noqa: SIM118  no mapping
        return weights | {name.removeprefix(_END): state.get_tensor(name) for name in names}


def logits_of(fold: Path, paths: list[str]) -> dict[str, np.ndarray]:
    """float32 [N, C] of each epoch's weights and of those on the way to the last; kept in WORK."""
    kept = fold / "test-logits.npz"
    if not kept.exists():
        folders = epochs(fold)
        model = imgcls.load(folders[-1], device="cpu", progress=False)
        first, last = (trained_weights(folders[n]) for n in (0, -1))
        found = {}
        for number, folder in enumerate(folders):
            model.module.load_state_dict(trained_weights(folder))
            found[f"epoch {number}"] = model.predict_proba(paths)
        for share in SHARES:
            between = {
                name: first[name].lerp(value, share) if value.is_floating_point() else value
                for name, value in last.items()
            }
            model.module.load_state_dict(between)
            found[f"{share:.0%}"] = model.predict_proba(paths)
        stored = read_temperature(read_checkpoint(folders[-1]))
        kept_t = 1.0 if stored is None else stored.temperature
        np.savez(kept, **{name: kept_t * np.log(np.maximum(p, 1e-30)) for name, p in found.items()})
    with np.load(kept) as file:
        return {name: file[name] for name in file.files}


def validated(
    logits: np.ndarray, labels: np.ndarray, *, fine_tuned: bool
) -> tuple[Validated, float]:
    """What an epoch scores on these pictures, as the training loop has it; its temperature."""
    keys = tuple(map(str, range(len(labels))))
    temperature = fit_temperature(logits, labels, lowest=1.0, fine_tuned=fine_tuned).temperature
    predictions = Predictions(keys=keys, logits=logits, labels=labels)
    metrics = validation_metrics(predictions)
    losses = Predictions(
        keys=keys, logits=logits, labels=labels, temperature=temperature
    ).picture_losses
    return Validated({**metrics, "val_calibrated_loss": float(losses.mean())}, losses), temperature


def by_tracker(found: Mapping[str, Validated]) -> str:
    """The best epoch, as it is tracked while training."""
    tracker, best = MetricTracker(MONITOR), ""
    for number, (name, each) in enumerate(found.items()):
        if name.startswith("epoch") and tracker.update(number, each.metrics):
            best = name
    return best


def as_training_chooses(found: Mapping[str, Validated]) -> str:
    """The weights that `imgcls train` keeps."""
    names = [name for name in found if name.startswith("epoch")]
    order = [names[-1], *(f"{share:.0%}" for share in SHARES), by_tracker(found), names[0]]
    return order[first_as_good([found[name] for name in order], MONITOR)]


def lowest_loss(found: Mapping[str, Validated]) -> str:
    """The epoch of the lowest loss after temperature."""
    names = [name for name in found if name.startswith("epoch")]
    return min(names, key=lambda name: found[name].metrics["val_calibrated_loss"])


RULES: dict[str, Callable[[Mapping[str, Validated]], str]] = {
    "the fitted head": lambda found: next(iter(found)),
    "the last epoch": lambda found: [name for name in found if name.startswith("epoch")][-1],
    "the best epoch, as tracked": by_tracker,
    "the epoch of the lowest loss": lowest_loss,
    "what training keeps": as_training_chooses,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--img-size", type=int, default=96)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"| set | {' | '.join(RULES)} |\n|---|{'---|' * len(RULES)}")
    totals = []
    for table in args.tables:
        place = args.work / table.stem
        place.mkdir(parents=True, exist_ok=True)
        copy = place / table.name
        copy.write_bytes(table.read_bytes())
        options = (
            "--model", "tf_efficientnet_lite0", "--weights", args.weights.absolute(),
            "--img-size", str(args.img_size), "--keep", "all", "--no-preflight", "--quiet",
        )  # fmt: skip
        fold = train(copy, "run", options)
        with copy.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
        names = sorted({row["label"] for row in rows})
        labels = np.array([names.index(row["label"]) for row in rows])
        logits = logits_of(fold, [str(table.parent / row["path"]) for row in rows])
        scores = {rule: np.zeros(2) for rule in RULES}
        for draw in range(DRAWS):
            order = np.random.default_rng(draw).permutation(len(labels))
            val, rest = order[:PICTURES], order[PICTURES:]
            found = {
                name: validated(each[val], labels[val], fine_tuned=name != "epoch 0")
                for name, each in logits.items()
            }
            for rule, choose in RULES.items():
                chosen = choose({name: each for name, (each, _) in found.items()})
                own, temperature = logits[chosen][rest], found[chosen][1]
                losses = Predictions(
                    keys=tuple(map(str, rest)), logits=own, labels=labels[rest],
                    temperature=temperature,
                ).picture_losses  # fmt: skip
                accuracy = balanced_accuracy_score(labels[rest], own.argmax(1))
                scores[rule] += np.array([100 * accuracy, losses.mean()]) / DRAWS
        totals.append(np.stack(list(scores.values())))
        print(line(table.stem, totals[-1]), flush=True)
    print(line("mean", np.mean(totals, axis=0)))


def line(name: str, scores: np.ndarray) -> str:
    """A row of the table: balanced accuracy in percent and NLL of each rule."""
    return f"| {name} | {' | '.join(f'{a:.1f}, {loss:.3f}' for a, loss in scores)} |"


if __name__ == "__main__":
    main()
