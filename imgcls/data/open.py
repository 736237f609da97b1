"""Finds the source that can read what the user named."""

from __future__ import annotations

import difflib
from pathlib import Path

from imgcls.data.source import SampleTable, Source
from imgcls.data.sources.digits import DigitsSource
from imgcls.data.sources.folder import FolderSource
from imgcls.errors import DataError

SOURCES: tuple[Source, ...] = (
    DigitsSource(),
    FolderSource(),
)


def open_source(spec: str) -> SampleTable:
    """The samples of the data that `spec` names. Raises DataError when there are none to use."""
    for source in SOURCES:
        if source.matches(spec):
            return source.read(spec)
    path = Path(spec).expanduser()
    if path.is_file():
        raise DataError(f"{spec}: is a file; give a folder with one folder of pictures a class")
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, [*siblings, "digits"], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise DataError(f"{spec}: no such folder{hint}")
