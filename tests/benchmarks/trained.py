"""Models that the benchmarks of "does not know" train by `imgcls train`, and what they say."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch

from imgcls.config.predict import PredictConfig
from imgcls.jobs.predict.predict import predict

RECIPE = ("--model", "tf_efficientnet_lite0", "--img-size", "96")


@dataclass(frozen=True, eq=False)
class Said:
    """What a checkpoint says of each row of a table: logits [N, C], features [N, D]; float32."""

    logits: np.ndarray
    features: np.ndarray


def rows_of(table: Path) -> dict[str, np.ndarray]:
    """The columns of a table, as text."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def train(table: Path, name: str, options: Sequence[str | Path]) -> Path:
    """The fold folder of a run of `imgcls train`; one that is there already is taken as it is."""
    run = table.parent / name
    if not (run / "done").exists():
        command = ("train", table, "--output", table.parent, "--experiment", name, *options)
        imgcls(*command, "--device", "cpu", "--workers", "0", "--seed", "0")
        (run / "done").touch()
    return run / "fold_0"


def imgcls(*arguments: str | Path) -> None:
    """Run a command; the log goes to stderr. Ends the benchmark where it fails."""
    command = [sys.executable, "-m", "imgcls", *map(str, arguments)]
    if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
        raise SystemExit(f"failed: {' '.join(command)}")


def said(checkpoint: Path, table: Path) -> Said:
    """What a checkpoint says of all rows of the table; kept beside the table."""
    kept = table.parent / f"{table.stem}-{checkpoint.parent.parent.parent.name}-{checkpoint.name}"
    features = kept.with_suffix(".npy")
    if not features.exists():
        part = kept.with_suffix(".new.npy")
        where = {"checkpoint": checkpoint, "device": "cpu", "workers": 0, "force": True}
        predict(PredictConfig(inputs=(str(table),), features=part, **where))
        part.rename(features)
    found = np.load(features)
    model = timm.create_model(f"local-dir:{checkpoint}", pretrained=True).eval()
    with torch.inference_mode():
        logits = model.get_classifier()(torch.from_numpy(found)).numpy()
    return Said(logits, found)


def class_names(checkpoint: Path) -> list[str]:
    """In the order of the logits."""
    return json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["label_names"]


def epochs(fold: Path) -> list[Path]:
    """The checkpoints of all epochs of a run that was trained with `--keep all`."""
    return sorted(p for p in (fold / "checkpoints").glob("step-*") if p.is_dir())
