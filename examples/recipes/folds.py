"""The splits of the comparison, the same for every contestant."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

FOLDS = 5
# of what is not in the test, one part in six is for val: 13 of 100 pictures
VAL_PARTS = 6


def write_fold(folder: Path, fold: int, file: Path, most: int | None = None) -> None:
    """The set as a table of path, label, group, split, stratified and by whole groups.

    Every picture is in the test of exactly one fold, as its test_path where the set has one. most:
    train and val have about so many pictures in place of four fifths, half of the set at most,
    drawn by the number of the fold, and the test has all others.
    """
    with (folder / "table.csv").open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    labels = np.array([row["label"] for row in rows])
    groups = np.array([row["group"] for row in rows])
    if most is None:
        parts = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
        rest, test = list(parts.split(labels, labels, groups))[fold]
    else:
        parts = StratifiedGroupKFold(
            max(2, round(len(rows) / most)), shuffle=True, random_state=fold
        )
        test, rest = next(parts.split(labels, labels, groups))
    inner = StratifiedGroupKFold(VAL_PARTS, shuffle=True, random_state=fold)
    _, val = next(inner.split(rest, labels[rest], groups[rest]))
    splits = np.full(len(rows), "train", dtype="<U5")
    splits[rest[val]], splits[test] = "val", "test"
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    with unfinished.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(("path", "label", "group", "split"))
        for row, split in zip(rows, splits, strict=True):
            path = row.get("test_path", row["path"]) if split == "test" else row["path"]
            writer.writerow(((folder / path).absolute(), row["label"], row["group"], split))
    unfinished.replace(file)
