"""Does `--model auto` pick a model that hindsight would have picked?

Run by hand, for an hour or so:

    python tests/benchmarks/model_choice.py SET... --weights WEIGHTS [--seeds 5] [--full]

SET: a folder of pictures with table.csv (path, label, group). WEIGHTS: a folder with
tf_efficientnet_lite0, lite1 and lite2.safetensors; the other two of the list start from scratch.
On each set and seed (of the split) the model is chosen by `--model auto`; then all five are trained
on the same split, the classifier alone, or with --full by the default recipe, and scored on test.
The best in hindsight is the one with the highest mean balanced accuracy over the seeds; the gap is
what the chosen ones have less. A set is met where the gap is at most one point.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import imgcls

MODELS = (
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite2",
    "resnet18",
    "mobilenetv3_small_100",
)
TEST_SIZE = 0.35
WANTED = 1.0


def options(table: Path, side: int, seed: int, out: Path) -> dict[str, object]:
    """What all trainings on one split share."""
    return {
        "data": str(table), "test_size": TEST_SIZE, "img_size": side, "seed": seed,
        "output": str(out), "preflight": False, "progress": False,
    }  # fmt: skip


def chosen(shared: dict[str, object], weights: Path) -> tuple[str, float]:
    """(the model that `--model auto` takes, the seconds that it took to choose)."""
    found = imgcls.train(
        **shared, model="auto", models=MODELS, weights=str(weights), pretrained=False, tune="head"
    )
    assert found.model_choice is not None
    return found.model_choice["chosen"], found.model_choice["elapsed_s"]


def score(shared: dict[str, object], weights: Path, name: str, *, full: bool) -> float:
    """The model's balanced accuracy on test, in points, trained on the same split."""
    file = weights / f"{name}.safetensors"
    start = {"weights": str(file)} if file.exists() else {"pretrained": False}
    # frozen random features are all that the classifier alone has of a model from scratch
    tune = {} if full else {"tune": "head"}
    run = imgcls.train(**shared, model=name, **start, **tune).run
    report = imgcls.evaluate(str(run), split="test", report=False, ci="none", progress=False)
    return 100 * float(report.metrics["balanced_accuracy"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--full", action="store_true", help="train all layers, not the head alone")
    given = parser.parse_args()
    met = 0
    for place in given.sets:
        picked: list[str] = []
        scores = {name: [] for name in MODELS}
        choosing_s, begun_s = 0.0, time.monotonic()
        for seed in range(given.seeds):
            with tempfile.TemporaryDirectory() as out:
                shared = options(place / "table.csv", given.side, seed, Path(out))
                name, took_s = chosen(shared, given.weights)
                picked.append(name)
                choosing_s += took_s
                for name in MODELS:
                    scores[name].append(score(shared, given.weights, name, full=given.full))
        best = max(MODELS, key=lambda name: float(np.mean(scores[name])))
        gaps = [scores[best][seed] - scores[name][seed] for seed, name in enumerate(picked)]
        error = float(np.std(gaps, ddof=1) / len(gaps) ** 0.5) if len(gaps) > 1 else float("nan")
        gap = float(np.mean(gaps))
        met += gap <= WANTED
        print(f"{place.name}: " + ", ".join(f"{n} {np.mean(s):.1f}" for n, s in scores.items()))
        counts = ", ".join(f"{name} {picked.count(name)}x" for name in dict.fromkeys(picked))
        print(
            f"  best in hindsight {best}; chosen {counts}; gap {gap:.2f} ± {error:.2f} points; "
            f"choosing took {choosing_s / given.seeds:.0f} s, all of it "
            f"{(time.monotonic() - begun_s) / 60:.1f} min",
            flush=True,
        )
    print(f"within {WANTED:g} point of the best in hindsight: {met} of {len(given.sets)} sets")


if __name__ == "__main__":
    main()
