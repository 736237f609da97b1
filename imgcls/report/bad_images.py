"""`bad_images.csv`: pictures that were left out because they cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from imgcls.report.files import read_csv, write_csv
from imgcls.results import AuditPicture

BAD_IMAGES = "bad_images.csv"
_COLUMNS = ("path", "label", "reason")


def add_bad_images(folder: Path, pictures: Iterable[AuditPicture]) -> None:
    """Add these to the folder's list, each once; without any, there need be no list."""
    new = {p.path: {"path": p.path, "label": p.label, "reason": p.note} for p in pictures}
    if new:
        before = {row["path"]: row for row in _rows(folder)}
        listed = {**new, **before}
        write_csv(folder / BAD_IMAGES, _COLUMNS, [listed[path] for path in sorted(listed)])


def count_bad_images(folder: Path) -> int:
    """How many pictures the folder's list has."""
    return len(_rows(folder))


def _rows(folder: Path) -> list[dict[str, str]]:
    file = folder / BAD_IMAGES
    return read_csv(file) if file.exists() else []
