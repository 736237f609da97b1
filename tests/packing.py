"""The same pictures as tar shards, Parquet files and a table of paths."""

from __future__ import annotations

import csv
import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
# what a name may hold that means something else in a URL
ODD = "a b#%20?é"
SPECS = {"tar": "s-{0..1}.tar", "parquet": "p-*.parquet", "table": "t.csv"}


def png(value, side=4):
    rng = np.random.default_rng(value)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (side, side, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_tar(file, members):
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def pack(root, pictures):
    """Write (label, encoded picture) pairs below a folder in each form."""
    half = len(pictures) // 2
    for shard, part in enumerate((pictures[:half], pictures[half:])):
        names = [f"{shard * half + number:04d}" for number in range(len(part))]
        members = {}
        for name, (label, content) in zip(names, part, strict=True):
            members |= {f"{name}.png": content, f"{name}.json": b'{"label": "%s"}' % label.encode()}
        write_tar(root / f"s-{shard}.tar", members)
        images = [{"bytes": c, "path": f"{n}.png"} for n, (_, c) in zip(names, part, strict=True)]
        table = pa.table({"image": pa.array(images, STRUCT), "label": [c for c, _ in part]})
        pq.write_table(table, root / f"p-{shard}.parquet", row_group_size=5)
    (root / ODD).mkdir()
    with (root / "t.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["path", "label"])
        for number, (label, content) in enumerate(pictures):
            name = f"{ODD}/{number:04d}.png"
            (root / name).write_bytes(content)
            rows.writerow([name, label])
