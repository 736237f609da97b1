"""`bad_images.csv`: pictures that were left out because they cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from imgcls.errors import RunError
from imgcls.results.audit import AuditPicture
from imgcls.storage.tables import append_csv, read_csv, write_csv

BAD_IMAGES = "bad_images.csv"
_COLUMNS = ("path", "label", "reason")


def append_bad_image(folder: Path, picture: AuditPicture) -> None:
    """Write down a picture the moment it is met, so that a kill loses none.

    It may so be listed twice, and out of order, until `add_bad_images` sorts the list.
    """
    file = folder / BAD_IMAGES
    if not file.exists():
        add_bad_images(folder, [picture])
        return
    append_csv(file, _COLUMNS, _row(picture))


def add_bad_images(folder: Path, pictures: Iterable[AuditPicture]) -> None:
    """Add these to the folder's list, each once; without any, there need be no list."""
    new = {picture.path: _row(picture) for picture in pictures}
    if new:
        listed = {**new, **_rows(folder)}
        write_csv(folder / BAD_IMAGES, _COLUMNS, [listed[path] for path in sorted(listed)])


def count_bad_images(folder: Path) -> int:
    """How many pictures the folder's list has."""
    return len(_rows(folder))


def _row(picture: AuditPicture) -> dict[str, str]:
    return {"path": picture.path, "label": picture.label, "reason": picture.note}


def _rows(folder: Path) -> dict[str, dict[str, str]]:
    file = folder / BAD_IMAGES
    if not file.exists():
        return {}
    try:
        return {row["path"]: row for row in read_csv(file)}
    except (ValueError, KeyError) as error:
        raise RunError(f"{file}: is damaged ({error}); put it back, or remove it") from error
