"""Print the oldest version that the installed imgcls allows of each dependency, a line each.

Without torch and torchvision, which are the first environment's, and without the extras whose
packages are as large.
"""

from __future__ import annotations

import sys
from importlib.metadata import requires

from packaging.requirements import Requirement

LARGE = ("torch", "torchvision")
EXTRAS = ("", "parquet", "tune", "onnx", "heif", "jxl", "dicom")


def main() -> None:
    """As pip takes them: name==version."""
    for line in requires("imgcls") or ():
        wanted = Requirement(line)
        marker = wanted.marker
        if wanted.name in LARGE or not (
            marker is None or any(marker.evaluate({"extra": extra}) for extra in EXTRAS)
        ):
            continue
        oldest = [limit.version for limit in wanted.specifier if limit.operator == ">="]
        if not oldest:
            sys.exit(f"{line}: has no lowest version to test")
        sys.stdout.write(f"{wanted.name}=={oldest[0]}\n")


if __name__ == "__main__":
    main()
