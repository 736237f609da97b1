"""Finds the source that can read what the user named."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from imgcls.config.reading import ReadingConfig
from imgcls.data.decode import DecodeSettings
from imgcls.data.rows import refuse
from imgcls.data.source import SampleTable, Source
from imgcls.data.sources.digits import DigitsSource
from imgcls.data.sources.folder import FolderSource
from imgcls.data.sources.manifest import SUFFIXES, ManifestSource
from imgcls.data.sources.parquet import ParquetSource
from imgcls.data.sources.tar import TarSource
from imgcls.errors import DataError

SOURCES: tuple[Source, ...] = (
    DigitsSource(),
    FolderSource(),
    ManifestSource(),
    ParquetSource(),
    TarSource(),
)
_ALWAYS = frozenset({"max_image_pixels", "bit_depth"})


def open_source(
    spec: str,
    reading: ReadingConfig | None = None,
    decoding: DecodeSettings | None = None,
    *,
    keep_missing: bool = False,
) -> SampleTable:
    """The samples of the data that `spec` names.

    Their pictures are decoded by `decoding`, and by what `reading` says of pixels and bits.

    keep_missing: paths that lead to no file are pictures that cannot be read, unless all do.
    Raises DataError when there are none to use, or `reading` says what means nothing for them.
    """
    reading = reading or ReadingConfig()
    source = find_source(spec)
    idle = sorted(reading.given.keys() - source.options - _ALWAYS)
    if idle:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise DataError(f"{spec}: {flags} says nothing about data of this kind; leave it out")
    table = source.read(spec, reading)
    missing = table.images.missing()
    if missing and (not keep_missing or len(missing) == len(table)):
        refuse(spec, table.images.why_missing, (table.keys[row] for row in missing))
    usual = decoding or DecodeSettings()
    table.images.decoding = decoding_as_said(usual, reading)
    options = reading.model_dump(mode="json", include=set(reading.given))
    return replace(table, origin={"source": absolute_spec(spec), **options})


def decoding_as_said(usual: DecodeSettings, reading: ReadingConfig) -> DecodeSettings:
    """The settings, but for what `reading` says of pixels and bits."""
    return replace(
        usual,
        max_pixels=reading.max_image_pixels or usual.max_pixels,
        bit_depth=reading.given.get("bit_depth", usual.bit_depth),
        declared=usual.declared or "bit_depth" in reading.given,
    )


def find_source(spec: str) -> Source:
    """The source for what `spec` names. Raises DataError when there is none."""
    for source in SOURCES:
        if source.matches(spec):
            return source
    path = Path(spec).expanduser()
    if path.is_file():
        kinds = ", ".join((*SUFFIXES, ".parquet", ".tar"))
        raise DataError(f"{spec}: is a file that is no table of pictures; tables are {kinds}")
    if path.exists():
        raise DataError(f"{spec}: is a pipe, a socket or a device, not a folder or a file")
    if path.is_symlink():
        raise DataError(f"{spec}: is a link that leads nowhere")
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, [*siblings, "digits"], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise DataError(f"{spec}: no such folder or file{hint}")


def absolute_spec(spec: str) -> str:
    """The same data by a name that holds from every folder."""
    return spec if DigitsSource().matches(spec) else str(Path(spec).expanduser().absolute())
