"""Memory and time of a table of millions of rows: `python tests/benchmarks/table_scale.py [ROWS]`.

A CSV in no order names 1,000 small JPEGs below ROWS / 1,000 folders, each a link to the one that
has them, so that each row has a path of its own which leads to a file. It has 1,000 classes;
`--columns split` and `--columns group` add splits, or groups of ten rows. What a training does
before and with its first batch is timed, in a process of its own: the table is opened, its
pictures are checked (with `--preflight`), divided, fingerprinted, written as splits.csv, recorded
as a checkpoint does, and shuffled for a batch of 64, which two loader processes read; then what a
resumed run does to find its pictures again. Seconds are those of the clock and, as other work on
the machine does not count there, of the processor. Memory is the highest of the process so far;
torch and timm are imported before.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = CLASSES = 1000
BATCH_SIZE = 64


def make_table(folder, rows, columns):
    """The CSV of so many rows, in no order, below `folder`."""
    pictures = folder / "pictures"
    if not pictures.is_dir():
        pictures.mkdir()
        noise = np.random.default_rng(0).integers(0, 256, (PICTURES, 16, 16, 3), dtype=np.uint8)
        for number, pixels in enumerate(noise):
            Image.fromarray(pixels).save(pictures / f"IMG_{number:06d}.jpg")
    sets = -(-rows // PICTURES)
    for number in range(sets):
        link = folder / f"set_{number:05d}"
        if not link.is_symlink():
            link.symlink_to("pictures")
    file = folder / f"table-{rows}-{columns}.csv"
    rng = np.random.default_rng(1)
    with file.open("w", encoding="utf-8") as stream:
        extra = {"none": "", "split": ",split", "group": ",group"}[columns]
        stream.write(f"path,label{extra}\n")
        order = rng.permutation(rows)
        for first in range(0, rows, 10_000):
            part = order[first : first + 10_000]
            labels = rng.integers(0, CLASSES, len(part))
            for row, label in zip(part.tolist(), labels.tolist(), strict=True):
                more = ""
                if columns == "split":
                    more = ",val" if row % 10 == 0 else ",train"
                elif columns == "group":
                    more = f",patient{row // 10:07d}"
                path = f"set_{row // PICTURES:05d}/IMG_{row % PICTURES:06d}.jpg"
                stream.write(f"{path},class {label:04d}{more}\n")
    return file


def memory_mib(which):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


class Steps:
    """Says what each step took, and the highest memory so far."""

    def __init__(self):
        self.found = []
        self.begin()

    def begin(self):
        self.began_s = time.perf_counter(), time.process_time()

    def done(self, name):
        wall_s, cpu_s = self.began_s
        row = (name, time.perf_counter() - wall_s, time.process_time() - cpu_s, memory_mib("VmHWM"))
        self.found.append(row)
        print(line(*row), file=sys.stderr)
        self.begin()


def line(name, wall_s, cpu_s, mib):
    return f"{name:<28} {wall_s:8.1f} s, {cpu_s:8.1f} s of one core, {mib:7,.0f} MiB"


def measure(file, *, preflight, val_size=0.1, test_size=0.1):
    import timm  # noqa: F401  what a training has imported before

    from imgcls.config.run import TrainConfig
    from imgcls.data.loading.loader import TrainLoader
    from imgcls.data.pixels.transforms import train_transform
    from imgcls.data.splits.assign import assignment_from_rows, split_rows
    from imgcls.data.splits.recorded import find_recorded
    from imgcls.jobs.plan import preflight as before
    from imgcls.jobs.plan.bit_depth import of_one_depth
    from imgcls.jobs.plan.recipe import plan_recipe
    from imgcls.jobs.plan.tables import training_table
    from imgcls.models.card import Preprocessing
    from imgcls.storage.splits import read_splits, recorded_splits
    from imgcls.storage.tables import SPLIT_COLUMNS, write_csv

    config = TrainConfig(
        data={"source": str(file), "val_size": val_size, "test_size": test_size,
              "preflight": preflight},
        runtime={"workers": 2},
    )  # fmt: skip
    steps = Steps()
    steps.done("(imported)")
    table = training_table(config)
    steps.done("open")
    quiet = lambda done, total: None  # noqa: E731
    checked = None
    if preflight:
        table, _ = of_one_depth(config, table, quiet)
        checked = before.preflight(config, table, quiet)
        steps.done(f"check {checked.read:,} pictures")
    table = before.with_digests(table, checked)
    assignment = before.split_readable(config, table, checked)
    steps.done("split")
    if checked is not None:
        before.preflight_report(checked, table, assignment)
    table.fingerprint()
    steps.done("fingerprint")
    write_csv(file.with_name("splits.csv"), SPLIT_COLUMNS, split_rows(table, assignment))
    steps.done("write splits.csv")
    recorded_splits(split_rows(table, assignment))
    steps.done("record for a checkpoint")
    rows = assignment.indices("train")
    preprocessing = Preprocessing(
        input_size=(3, 32, 32), interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3,
        crop_pct=1.0, crop_mode="center",
    )  # fmt: skip
    recipe = plan_recipe(
        config, table.class_counts(rows), table.defaults, from_weights=False, one_classifier=True
    )
    loader = TrainLoader(
        table, rows, train_transform(preprocessing, recipe.augment), batch_size=BATCH_SIZE,
        grad_accum=1, seed=0, workers=2, device_type="cpu", even_batches=False,
    )  # fmt: skip
    [batch] = next(loader.steps(0))
    assert len(batch.keys) in (BATCH_SIZE - 1, BATCH_SIZE)
    steps.done("first shuffled batch")
    recorded = read_splits(file.parent)
    steps.done("read splits.csv")
    found = find_recorded(table, recorded, since_s=math.inf).table
    again = assignment_from_rows(found, recorded)
    assert (again.split == assignment.split).all()
    steps.done("find the pictures again")
    return steps.found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=[10**5, 10**6, 10**7])
    parser.add_argument("--columns", choices=("none", "split", "group"), default="none")
    parser.add_argument("--preflight", action="store_true")
    parser.add_argument(
        "--folder", type=Path, help="where the table is made; default: a temporary one"
    )
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, preflight=given.preflight)))
        sys.exit()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        for rows in given.rows:
            file = make_table(folder, rows, given.columns)
            options = ["--preflight"] if given.preflight else []
            done = subprocess.run(
                [sys.executable, __file__, "--measure", file, *options],
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            found = json.loads(done.stdout)
            wall_s, cpu_s = (sum(row[n] for row in found[1:]) for n in (1, 2))
            print(f"{rows:,} rows, {file.stat().st_size / 2**20:,.0f} MiB of CSV")
            for row in found:
                print(f"  {line(*row)}")
            print(f"  {line('in all', wall_s, cpu_s, found[-1][-1])}")
