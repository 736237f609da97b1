"""How long table, split, pre-flight and audit take on many small files, and their memory.

Run by hand: `python tests/benchmarks/audit_scale.py [FILES] [SIDE]`, by default 100,000 JPEGs of 32
pixels in 100 classes, made in a temporary folder. Each part runs in a process of its own. CPU time
is of all its processes, and does not depend on what else the machine does; memory is the largest
resident set of that process, and of a child where it has some.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 100


def make(root: Path, count: int, side: int) -> int:
    """Random clouds of colour as JPEGs; the bytes on disk."""
    rng = np.random.default_rng(0)
    size = 0
    for number in range(CLASSES):
        (root / f"class_{number:03d}").mkdir()
    for index in range(count):
        cells = rng.integers(0, 256, (5, 5, 3), np.uint8)
        image = Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)
        file = root / f"class_{index % CLASSES:03d}" / f"{index:06d}.jpg"
        image.save(file, quality=90)
        size += file.stat().st_size
    return size


def table(root: str) -> str:
    from imgcls.data.open import open_source

    return f"{len(open_source(root)):,} rows"


def table_and_split(root: str) -> str:
    from imgcls.data.open import open_source
    from imgcls.data.splits.assign import assign_splits

    found = assign_splits(open_source(root), val_size=0.15, test_size=0.15, folds=0, seed=0)
    return ", ".join(f"{len(found.indices(name)):,} {name}" for name in ("train", "val", "test"))


def preflight(root: str) -> str:
    from imgcls.config.run import TrainConfig
    from imgcls.data.open import open_source
    from imgcls.jobs.plan.preflight import preflight as job

    config = TrainConfig.model_validate({"data": {"source": root}})
    found = job(config, open_source(root), lambda _done, _total: None)
    return f"{len(found.unreadable)} unreadable, {len(found.same)} sets of copies"


def loading(root: str) -> str:
    """One epoch's decoding on one core, to compare with."""
    from imgcls.data.open import open_source

    found = open_source(root)
    for row in range(len(found)):
        found.images.open(row)
    return f"{len(found):,} pictures decoded"


def audit(root: str) -> str:
    from imgcls.config.inspect import InspectConfig
    from imgcls.jobs.inspect import inspect

    return f"{len(inspect(InspectConfig(source=root)).findings)} findings"


PARTS = {part.__name__: part for part in (table, table_and_split, preflight, audit, loading)}


def measure(part: str, root: str) -> None:
    start_s = time.perf_counter()
    words = PARTS[part](root)
    elapsed_s = time.perf_counter() - start_s
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(usage.ru_utime + usage.ru_stime for usage in both)
    own, child = (usage.ru_maxrss / 1024 for usage in both)
    print(
        f"{part:<16}{elapsed_s:>8.1f} s{cpu_s:>8.1f} s{own:>8,.0f} MiB{child:>8,.0f} MiB   {words}",
        flush=True,
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    side = int(sys.argv[2]) if len(sys.argv) > 2 else 32
    with tempfile.TemporaryDirectory() as root:
        size = make(Path(root), count, side)
        print(f"{count:,} JPEGs of {side} pixels, {size / 2**20:,.0f} MiB")
        print(f"{'':<16}{'time':>10}{'CPU time':>10}{'memory':>12}{'a child':>12}")
        for part in PARTS:
            subprocess.run([sys.executable, __file__, "--part", part, root], check=True)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] == "--part":
        measure(*sys.argv[2:])
    else:
        main()
