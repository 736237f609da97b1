"""Print the oldest version that pyproject.toml allows of each dependency, a line each.

Without torch and torchvision, which are the first environment's, and without the extras whose
packages are as large.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tomllib

LARGE = ("torch", "torchvision")
EXTRAS = ("parquet", "webdataset", "tune")


def main() -> None:
    """As pip takes them: name==version."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    for line in wanted:
        name, separator, oldest = line.partition(">=")
        if not separator:
            sys.exit(f"{line}: has no lowest version to test")
        if name not in LARGE:
            sys.stdout.write(f"{name}=={oldest}\n")


if __name__ == "__main__":
    main()
