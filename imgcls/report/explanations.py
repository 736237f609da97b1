"""Pictures of what the model looked at, beside the other files of an evaluated split.

explanations/
  index.csv            path of the picture, file
  000.jpg  001.jpg ... the model's input under a map of heat, worst mistake first
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from imgcls.engine.durable import write_bytes
from imgcls.report.files import read_csv, write_csv

EXPLANATIONS = "explanations"
_INDEX, _COLUMNS = "index.csv", ("path", "file")


def write_explanations(folder: Path, overlays: Iterable[tuple[str, Image.Image]]) -> None:
    """Write the pictures and their index; the names are those of the pictures explained."""
    (folder / EXPLANATIONS).mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (key, overlay) in enumerate(overlays):
        name = f"{number:03d}.jpg"
        stream = io.BytesIO()
        overlay.save(stream, "JPEG", quality=90)
        write_bytes(folder / EXPLANATIONS / name, stream.getvalue())
        rows.append({"path": key, "file": name})
    write_csv(folder / EXPLANATIONS / _INDEX, _COLUMNS, rows)


def read_explanations(folder: Path) -> dict[str, Path]:
    """The file of each explained picture, by the picture's name; none where there are none."""
    index = folder / EXPLANATIONS / _INDEX
    if not index.is_file():
        return {}
    return {row["path"]: index.with_name(Path(row["file"]).name) for row in read_csv(index)}
