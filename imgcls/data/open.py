"""Opens the data that the user named, by the source that can read them."""

from __future__ import annotations

import difflib
import errno
from dataclasses import replace
from pathlib import Path

from imgcls.config.reading import ReadingConfig
from imgcls.config.run import TrainConfig
from imgcls.data.pixels.decode import DecodeSettings
from imgcls.data.pixels.formats import IMAGE_SUFFIXES
from imgcls.data.remote.urls import check_url, is_remote, without_query
from imgcls.data.rows import refuse
from imgcls.data.sources.cells import SUFFIXES
from imgcls.data.sources.digits import DigitsSource
from imgcls.data.sources.folder import FolderSource
from imgcls.data.sources.manifest import ManifestSource
from imgcls.data.sources.parquet import ParquetSource
from imgcls.data.sources.tar import TarSource
from imgcls.data.table import SampleTable, Source
from imgcls.errors import DataError
from imgcls.storage.pointers import CHECKPOINTS

SOURCES: tuple[Source, ...] = (
    DigitsSource(),
    FolderSource(),
    ManifestSource(),
    ParquetSource(),
    TarSource(),
)
_ALWAYS = frozenset({"max_image_pixels", "bit_depth"})
_NO_TABLES = (
    (IMAGE_SUFFIXES, "is one picture; name the folder of class folders that it is in, or a table"),
    (
        frozenset({".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}),
        "is an archive; unpack it, and name the folder",
    ),
    (
        frozenset({".xlsx", ".xls", ".ods"}),
        "is a spreadsheet; save it as .csv",
    ),
    (
        frozenset({".yaml", ".yml", ".json"}),
        (
            "is no table of pictures; name the folder with them, or a .csv or .jsonl with paths "
            "and labels (a file of options is for --config)"
        ),
    ),
    (
        frozenset({".safetensors", ".pt", ".pth", ".ckpt", ".onnx"}),
        "is a model's file, not pictures",
    ),
)


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


def checkpoint_decoding(config: TrainConfig) -> DecodeSettings:
    """How the pictures of a checkpoint with this config are decoded."""
    measured = "bit_depth" in config.reading.given
    return replace(decode_settings(config), declared=measured)


def decode_settings(config: TrainConfig) -> DecodeSettings:
    """How the model's pictures are decoded, but for what `reading` says of them."""
    return DecodeSettings(channels=config.model.in_chans, background=config.data.background)


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
    if not spec.strip():
        # a path of nothing is the current folder: $DATA that is not set would train on that
        raise DataError("DATA is empty; name a folder or a table (. is the current folder)")
    return _remote_source(spec) if is_remote(spec) else _source_on_disk(spec)


def _source_on_disk(spec: str) -> Source:
    path = Path(spec).expanduser()
    if _is_too_long(path):
        if TarSource().matches(spec):
            return TarSource()  # a list of shards, none of which need be
        raise DataError(f"{spec}: is too long for the name of a file")
    if is_trained(path):
        raise DataError(
            f"{spec}: is a trained model's folder, not pictures; `imgcls evaluate {spec}` scores "
            f"it, `imgcls resume {spec}` goes on with an unfinished run"
        )
    for source in SOURCES:
        if source.matches(spec):
            return source
    if path.is_file():
        raise DataError(f"{spec}: {_not_a_table(path)}")
    if path.exists():
        raise DataError(f"{spec}: is a pipe, a socket or a device, not a folder or a file")
    if path.is_symlink():
        raise DataError(f"{spec}: is a link that leads nowhere")
    raise DataError(f"{spec}: no such folder or file{_hint(spec, path)}")


def _remote_source(spec: str) -> Source:
    """The source for a URL, by its ending. Raises DataError; asks no server."""
    for part in filter(is_remote, _parts(spec)):
        check_url(part)
    for source in (ManifestSource(), ParquetSource(), TarSource()):
        if source.matches(spec):
            return source
    suffix = Path(without_query(spec)).suffix.lower()
    words = next((told for suffixes, told in _NO_TABLES if suffix in suffixes), None)
    kinds = ", ".join((*SUFFIXES, ".parquet", ".tar"))
    raise DataError(
        f"{spec}: {words or 'is no table of pictures'}; from URLs are read {kinds}, all else "
        "from disk: download it first"
    )


def _is_too_long(path: Path) -> bool:
    try:
        path.lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False


def is_trained(path: Path) -> bool:
    """True for a run, fold or checkpoint folder."""
    is_run = (path / "config.yaml").is_file() and (path / "fold_0").is_dir()
    is_fold = (path / CHECKPOINTS).is_dir() and (path / "history.csv").is_file()
    return is_run or is_fold or (path / "model.safetensors").is_file()


def _not_a_table(path: Path) -> str:
    suffix = path.suffix.lower()
    for suffixes, words in _NO_TABLES:
        if suffix in suffixes:
            return words
    kinds = ", ".join((*SUFFIXES, ".parquet", ".tar"))
    return f"is a file that is no table of pictures; tables are {kinds}"


def _hint(spec: str, path: Path) -> str:
    if any(mark in spec for mark in "*?"):
        return "; name the folder: patterns are for .parquet and .tar shards"
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, [*siblings, "digits"], n=1)
    return f"; did you mean {near[0]}?" if near else ""


def absolute_spec(spec: str) -> str:
    """The same data by an absolute path, which holds from every folder, or by its URL as it is."""
    if DigitsSource().matches(spec):
        return spec
    return "::".join(
        part if is_remote(part) else str(Path(part).expanduser().absolute())
        for part in _parts(spec)
    )


def _parts(spec: str) -> list[str]:
    # several shards are written one behind the other
    return spec.split("::") if TarSource().matches(spec) else [spec]
