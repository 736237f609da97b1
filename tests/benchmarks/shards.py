"""How long tar shards of small pictures take to open, with and without their index.

Run by hand: `python tests/benchmarks/shards.py [SHARDS PICTURES]`, 20 shards of 5,000 by default.
Each opening is a process of its own, three of each in turn, and the medians are printed: `headers`
reads the shards with an empty cache folder, `index` with what the one before has kept. Seconds are
those of the processor, so that other work does not count; all is in the system's memory.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

ROUNDS = 3
MEASURE = """
import json, resource, sys, time
from imgcls.data.open import open_source
import torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.process_time()
table = open_source(sys.argv[1])
opened = time.process_time()
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([len(table), opened - start, (after - before) / 1024]))
"""


def main() -> None:
    shards, pictures = map(int, sys.argv[1:] or (20, 5000))
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), shards, pictures)
        time.sleep(3)  # a shard that has just been written is not kept
        found: dict[str, list[list[float]]] = {"headers": [], "index": []}
        for number in range(ROUNDS):
            cache = Path(folder, f"cache-{number}")
            for rounds in found.values():
                rounds.append(opening(f"{folder}/s-*.tar", cache))
        kept = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    print(f"{'by':<10} {'pictures':>9} {'opening':>9} {'memory':>9}")
    for name, rounds in found.items():
        rows, seconds, mib = map(statistics.median, zip(*rounds, strict=True))
        print(f"{name:<10} {rows:>9,.0f} {seconds:>7.2f} s {mib:>5.0f} MiB")
    print(f"the index takes {kept / 2**20:.1f} MiB on disk")


def opening(spec: str, cache: Path) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, spec],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "IMGCLS_CACHE": str(cache)},
    )
    return json.loads(done.stdout)


def write_shards(root: Path, shards: int, pictures: int) -> None:
    """Samples of a JPEG of 16 x 16 pixels and the text of its class."""
    stream = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    for shard in range(shards):
        with tarfile.open(root / f"s-{shard:03d}.tar", "w") as archive:
            for number in range(pictures):
                for suffix, content in (("jpg", stream.getvalue()), ("cls", b"%d" % (number % 50))):
                    info = tarfile.TarInfo(f"{shard:03d}-{number:06d}.{suffix}")
                    info.size = len(content)
                    archive.addfile(info, BytesIO(content))


if __name__ == "__main__":
    main()
