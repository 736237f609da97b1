"""Tables, splits and what a run records of them are those of the version that kept tuples."""

from __future__ import annotations

import csv
import hashlib
import json

import numpy as np
import pytest

from imgcls.config.reading import ReadingConfig
from imgcls.data.open import open_source
from imgcls.data.splits.assign import assign_splits, assignment_from_rows, split_rows
from imgcls.data.splits.recorded import find_recorded
from imgcls.storage.splits import differing, read_splits, recorded_splits
from imgcls.storage.tables import SPLIT_COLUMNS, write_csv

COUNT = 600
CLASSES = ("ant", "bee", 'wasp, "big"', "é")
WORDS = ("Training", "dev", "test")
# (columns, reading, how it is divided) -> (fingerprint, sha256 of splits.csv, of what a checkpoint
# keeps of it, splitter), computed by the code at commit b146874
BEFORE = {
    "path": (
        {}, {}, {},
        (
            "240226ce0490df389d92b53157a9d3d14401f236decadd13da354c43c48ca54d",
            "c4c1e77e44861c69306da97e349a60ebded10fe8f3f76063c994180a32195823",
            "dba9fe9fba6bbba7307eca55d6488e0f351c06da9d78fd22eb2905c0b168ed22",
            "stratified by hash",
        ),
    ),
    "split": (
        {"subset"}, {"split_col": "subset"}, {},
        (
            "240226ce0490df389d92b53157a9d3d14401f236decadd13da354c43c48ca54d",
            "e6c42e93ef35549713e9b91d13fafd612e6e9f1efddc04dbe4036ee885f26edd",
            "850d98b0ad39da76314dafea50eeef2ef29be0b504168016f15186c2bb3da195",
            "given by the data",
        ),
    ),
    "group": (
        {"group", "site"}, {}, {},
        (
            "240226ce0490df389d92b53157a9d3d14401f236decadd13da354c43c48ca54d",
            "37ac6488b657c03b311507795b09a3dfcc8147a383a51d5745cfe7d7759b2a30",
            "2b0bd03cdb5da4cd5a7763b5c461799fd69d9256a36ef7a6bb61f63c9f723b75",
            "stratified by hash, by whole groups",
        ),
    ),
    "groups of the names": (
        {"site"}, {"group_regex": r"(\d)\."}, {"folds": 3},
        (
            "240226ce0490df389d92b53157a9d3d14401f236decadd13da354c43c48ca54d",
            "668dd861d6bf525fafc82c393295fec09a30b2972529f2f412307ea350bc2346",
            "c80e60976556e6d5139f17d820b8188313c12d658143883c44058e3517cb5943",
            "StratifiedGroupKFold(3)",
        ),
    ),
    "folds": (
        {}, {}, {"folds": 4},
        (
            "240226ce0490df389d92b53157a9d3d14401f236decadd13da354c43c48ca54d",
            "4422ce7f9b8bd936b4b6f94e6c11af2c82c7a8f58ffbfa2880c23261a2f063ca",
            "de34f4f6b6ddf11651d6d097f03fe01ae19c1d4d490574f7928f1572d545ef11",
            "StratifiedKFold(4)",
        ),
    ),
    "given folds": (
        {"fold"}, {}, {},
        (
            "240226ce0490df389d92b53157a9d3d14401f236decadd13da354c43c48ca54d",
            "b700b4671305d4c1547d1fc633c9778f2f165a266bea85bb09c0858dea73e3e8",
            "b9d0b29f18b91520dbe91b2aa5d1ed6b8396968fd6e6d0cbcc0d077111c09e04",
            "folds given by the data",
        ),
    ),
}  # fmt: skip


def written(folder, wanted):
    """A table of 600 files in no order, with odd names, uneven classes, gaps among the groups."""
    places = [
        f"{'Étude'[: 1 + n % 5]}/{'z' * (n % 23)}{n * 7919 % COUNT:04d}.PNG" for n in range(COUNT)
    ]
    for place in places:
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_text(place)
    columns = {
        "path": [f" {p}" if n % 9 == 0 else p for n, p in enumerate(places)],
        "label": [CLASSES[min(n * 31 % 17 // 4, 3)] for n in range(COUNT)],
        "subset": [WORDS[min(n * 13 % 11 // 4, 2)] for n in range(COUNT)],
        "group": ["" if n % 5 == 0 else f"plant {n * 29 % 71}" for n in range(COUNT)],
        "site": [f"site {n % 3}" for n in range(COUNT)],
        "fold": [f"{n % 3}.0" for n in range(COUNT)],
    }  # fmt: skip
    titles = [title for title in columns if title in {"path", "label", *wanted}]
    file = folder / "table.csv"
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(titles)
        writer.writerows(zip(*(columns[title] for title in titles), strict=True))
    return file


def opened(folder, case):
    wanted, reading, division, expected = BEFORE[case]
    table = open_source(str(written(folder, wanted)), ReadingConfig(**reading))
    division = {"val_size": 0.15, "test_size": 0.1, "folds": 0, "seed": 3, **division}
    return table, assign_splits(table, **division), expected


@pytest.mark.parametrize("case", BEFORE)
def test_results_are_those_of_earlier_versions(tmp_path, case):
    """The fingerprint, splits.csv to the byte, what a checkpoint keeps, the words of the split."""
    table, assignment, expected = opened(tmp_path, case)
    rows = split_rows(table, assignment)
    write_csv(tmp_path / "splits.csv", SPLIT_COLUMNS, rows)
    content = (tmp_path / "splits.csv").read_bytes()
    kept = recorded_splits(rows)
    assert (
        table.fingerprint(),
        hashlib.sha256(content).hexdigest(),
        hashlib.sha256(json.dumps(kept).encode()).hexdigest(),
        assignment.splitter,
    ) == expected
    read = read_splits(tmp_path)
    assert read == list(rows)
    assert differing(read, kept) is None


@pytest.mark.parametrize("case", BEFORE)
def test_a_run_finds_its_rows_in_any_order(tmp_path, case):
    """Whatever the order of splits.csv, and among pictures that have come since."""
    table, assignment, _ = opened(tmp_path, case)
    rows = list(split_rows(table, assignment))
    found = find_recorded(table, rows[::-1])
    assert found.table.keys == table.keys
    assert (assignment_from_rows(found.table, rows[::-1]).split == assignment.split).all()
    some = find_recorded(table.select(np.arange(0, len(table), 2)), rows, keep_gone=True)
    assert some.table.keys == table.keys
    assert some.found == table.keys[::2]
    back = assignment_from_rows(some.table, rows)
    assert (back.split == assignment.split).all()
    assert (back.fold == assignment.fold).all()
