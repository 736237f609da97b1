"""How long a table of many small files and its split take, and what they hold in memory.

Run by hand: `python tests/benchmarks/tables.py [FILES]`, 100,000 by default. The files are made in
a folder of their own; each kind of data is read in a new process, a few rounds in turn, and the
medians are printed.
"""

from __future__ import annotations

import csv
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

ROUNDS = 3
CLASSES = 50
GROUP_SIZE = 10
SHARD = 10_000
MEASURE = """
import json, resource, sys, time
from imgcls.config.reading import ReadingConfig
from imgcls.data.open import open_source
from imgcls.data.splits.assign import assign_splits
spec, reading, folds = sys.argv[1], ReadingConfig(**json.loads(sys.argv[2])), int(sys.argv[3])
# what a training has imported anyway
import sklearn.model_selection, torch, pyarrow.parquet
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
table = open_source(spec, reading)
opened = time.perf_counter()
assign_splits(table, val_size=0.15, test_size=0.15, folds=folds, seed=0)
done = time.perf_counter()
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([len(table), opened - start, done - opened, (after - before) / 1024]))
"""


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        cases = write_data(Path(folder), count)
        results: dict[str, list[list[float]]] = {name: [] for name in cases}
        for number in range(ROUNDS):
            for name, arguments in cases.items():
                done = subprocess.run(
                    [sys.executable, "-c", MEASURE, *arguments],
                    check=True,
                    capture_output=True,
                    text=True,
                    # without what an earlier round has kept
                    env={**os.environ, "IMGCLS_CACHE": f"{folder}/cache-{number}"},
                )
                results[name].append(json.loads(done.stdout))
    print(f"{'data':<28} {'pictures':>9} {'table':>8} {'split':>8} {'memory':>9}")
    for name, rounds in results.items():
        rows, table_s, split_s, mib = map(statistics.median, zip(*rounds, strict=True))
        print(f"{name:<28} {rows:>9,.0f} {table_s:>6.2f} s {split_s:>6.2f} s {mib:>5.0f} MiB")


def write_data(root: Path, count: int) -> dict[str, tuple[str, str, str]]:
    """The same pictures in a folder, a table, Parquet and tar shards; what to measure of each."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(noise).save(stream, "JPEG")
    content = stream.getvalue()
    rows = []
    for number in range(count):
        label = f"class {number % CLASSES:02d}"
        rows.append((f"{label}/{number:06d}.jpg", label, f"g{number // CLASSES // GROUP_SIZE}"))
    for label in {label for _, label, _ in rows}:
        (root / "folder" / label).mkdir(parents=True)
    for path, _, _ in rows:
        (root / "folder" / path).write_bytes(content)
    with (root / "folder" / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group"), *rows])
    for shard in range(0, count, SHARD):
        part = rows[shard : shard + SHARD]
        pictures = pa.array(
            [{"bytes": content, "path": Path(path).name} for path, _, _ in part],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        )
        table = pa.table({"image": pictures, "label": [label for _, label, _ in part]})
        pq.write_table(table, root / f"p-{shard // SHARD:03d}.parquet", row_group_size=100)
        with tarfile.open(root / f"t-{shard // SHARD:03d}.tar", "w") as archive:
            for path, label, _ in part:
                for suffix, data in (("jpg", content), ("cls", label.encode())):
                    info = tarfile.TarInfo(f"{Path(path).stem}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    grouped = json.dumps({"group_regex": r"(\d+)\d\.jpg"})
    last = f"{(count - 1) // SHARD:03d}"
    return {
        "folder": (str(root / "folder"), "{}", "0"),
        "folder, 5 folds": (str(root / "folder"), "{}", "5"),
        "folder, groups by regex": (str(root / "folder"), grouped, "0"),
        "table.csv with groups": (str(root / "folder" / "table.csv"), "{}", "0"),
        "table.csv, 5 group folds": (str(root / "folder" / "table.csv"), "{}", "5"),
        "Parquet with pictures": (str(root / "p-*.parquet"), "{}", "0"),
        "tar shards": (str(root / f"t-{{000..{last}}}.tar"), "{}", "0"),
    }


if __name__ == "__main__":
    main()
