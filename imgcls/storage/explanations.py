"""Pictures of what the model looked at, beside the other files of an evaluated split.

explanations/
  index.csv            path of the picture, file, method
  000.jpg  001.jpg ... the model's input under a map of heat, worst mistake first
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from imgcls.storage.durable import write_bytes
from imgcls.storage.tables import read_csv, write_csv

EXPLANATIONS = "explanations"
GRAD_CAM, ROLLOUT = "Grad-CAM", "attention rollout"
_INDEX, _COLUMNS = "index.csv", ("path", "file", "method")


@dataclass(frozen=True)
class Explanation:
    """The picture of what the model looked at, and the method that found it."""

    file: Path
    method: str


def write_explanations(
    folder: Path, method: str, overlays: Iterable[tuple[str, Image.Image]]
) -> None:
    """Write the pictures and their index; the names are those of the pictures explained."""
    (folder / EXPLANATIONS).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (key, overlay) in enumerate(overlays):
        name = f"{number:03d}.jpg"
        stream = io.BytesIO()
        overlay.save(stream, "JPEG", quality=90)
        write_bytes(folder / EXPLANATIONS / name, stream.getvalue())
        rows.append({"path": key, "file": name, "method": method})
    write_csv(folder / EXPLANATIONS / _INDEX, _COLUMNS, rows)


def read_explanations(folder: Path) -> dict[str, Explanation]:
    """What explains each picture, by the picture's name; empty where nothing was explained."""
    index = folder / EXPLANATIONS / _INDEX
    if not index.is_file():
        return {}
    return {
        row["path"]: Explanation(index.with_name(Path(row["file"]).name), row["method"])
        for row in read_csv(index)
    }
