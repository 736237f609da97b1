"""Pictures to classify, without labels: what the user named, one picture after another.

Nothing grows with their number: folders are walked, tables read and shards looked through as the
pictures are asked for. Their order is always the same.
"""

from __future__ import annotations

import glob
import itertools
import os
import sys
import tarfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from imgcls.config.files import check_regular, open_file
from imgcls.data.names import shortened
from imgcls.data.open import is_trained
from imgcls.data.pixels.decode import why_unreadable
from imgcls.data.places import InFile, InParquet, InTar, Nowhere, Place, is_there
from imgcls.data.remote.urls import is_remote, refuse_credentials
from imgcls.data.rows import column, refuse
from imgcls.data.sources.cells import SUFFIXES, Row, open_table
from imgcls.data.sources.folder import nothing_found, passed_over
from imgcls.data.sources.parquet_columns import column_texts, picture_column, texts_of
from imgcls.data.sources.table_paths import locate
from imgcls.data.sources.tar import shards_of
from imgcls.data.sources.tar_index import check_whole, named_members
from imgcls.data.sources.tree import LeftOut, is_picture, pictures_below
from imgcls.errors import DataError, ReadError

STDIN = "-"
# rows of a table whose paths are looked for at once
_ROWS = 1000


class Input(NamedTuple):
    """A picture to classify: its path as the user, a folder or a table names it."""

    path: str
    place: Place


class _DamagedError(Exception):
    """A table or a shard is damaged."""


class Inputs:
    """The pictures that `specs` name, in their order; may be gone through again, but for stdin.

    specs: picture files, folders, globs, tables (.csv .tsv .jsonl .parquet), tar shards, and "-"
    for a path a line on stdin. path_col, root: as in ReadingConfig. `notes`: what the user should
    know of them, once they were gone through.

    Raises DataError for specs of which none is there.
    """

    def __init__(
        self, specs: Sequence[str], path_col: str | None = None, root: Path | None = None
    ) -> None:
        self._specs = specs
        self._path_col = path_col
        self._root = root
        self.notes: dict[str, None] = {}
        for url in (part for spec in specs for part in spec.split("::") if is_remote(part)):
            refuse_credentials(url)
            raise DataError(f"{url}: is a URL, and files on disk are classified; download it")
        missing = [spec for spec in specs if not _is_there(spec)]
        if len(missing) == len(specs):
            raise DataError(f"{shortened(missing)}: no such file or folder")
        for spec in specs:
            if is_trained(Path(spec).expanduser()):
                raise DataError(
                    f"{spec}: is a trained model's folder, not pictures; name it by --checkpoint"
                )
        tables = any(spec == STDIN or _suffix(spec) in (*SUFFIXES, ".parquet") for spec in specs)
        if root is not None and not tables:
            raise DataError(f"--root {root}: says nothing about these inputs; leave it out")
        if path_col is not None and not any(
            _suffix(spec) in (*SUFFIXES, ".parquet", ".tar") for spec in specs
        ):
            raise DataError(f"--path-col {path_col}: says nothing about these inputs; leave it out")

    @property
    def read_once(self) -> bool:
        """True where paths come from stdin, which says them once."""
        return STDIN in self._specs

    def count(self) -> int:
        """How many pictures there are, by going through all their names."""
        return sum(1 for _ in self)

    def __iter__(self) -> Iterator[Input]:
        """Each picture once for each time that it is named.

        A folder, table or shard that cannot be read, or not to its end, comes itself, with the
        reason. Raises DataError where it is all there is, and for a table that is none of paths;
        ReadError where the machine fails.
        """
        alone = len(self._specs) == 1
        for spec in self._specs:
            yield from self._to_its_end(spec, self._named(spec, alone=alone), alone=alone)

    def _to_its_end(self, shown: str, inputs: Iterator[Input], *, alone: bool) -> Iterator[Input]:
        """The inputs, and behind them what they come from where that cannot be read on."""
        some = False
        try:
            for one in inputs:
                some = True
                yield one
        except (OSError, _DamagedError) as error:
            reason = why_unreadable(error, shown)
            if isinstance(reason, ReadError):
                raise reason from error
            if alone and not some:
                raise DataError(f"{shown}: cannot be read ({reason})") from error
            self.notes[f"{shown}: cannot be read to its end ({reason})"] = None
            yield Input(shown, Nowhere(str(reason)))

    def _named(self, spec: str, *, alone: bool) -> Iterator[Input]:
        """The pictures of one spec; alone: there are no others."""
        path = os.path.expanduser(spec)  # noqa: PTH111  a glob, or bytes that are no UTF-8
        suffix = _suffix(spec)
        if spec == STDIN:
            yield from self._on_stdin()
        elif os.path.isdir(path):  # noqa: PTH112
            yield from self._in_folder(spec, path, alone=alone)
        elif suffix == ".tar":
            yield from self._in_shards(spec, alone=alone)
        elif suffix in SUFFIXES and os.path.isfile(path):  # noqa: PTH113
            yield from self._in_table(spec, Path(path).absolute(), alone=alone)
        elif suffix == ".parquet" and os.path.isfile(path):  # noqa: PTH113
            yield from self._in_parquet(spec, Path(path).absolute(), alone=alone)
        elif not os.path.lexists(path) and glob.has_magic(path):
            matches = _matches(path)
            alone = alone and len(matches) == 1
            for found in matches:
                yield from self._to_its_end(found, self._named(found, alone=alone), alone=alone)
        else:
            yield Input(spec, InFile(path) if is_there(path) else Nowhere("no such file"))

    def _in_folder(self, spec: str, path: str, *, alone: bool) -> Iterator[Input]:
        left_out, some = LeftOut(), False
        for file, reason in pictures_below(path, left_out):
            some, shown = True, file.replace(os.sep, "/")
            if reason is not None:
                self.notes[f"{shown}: cannot be looked into ({reason})"] = None
            yield Input(shown, InFile(file) if reason is None else Nowhere(str(reason)))
        if not some:
            told = nothing_found(spec, left_out, "pictures:")
            if alone:
                raise DataError(told)
            self.notes[told] = None
        self.notes.update((f"{spec}: {note}", None) for note in passed_over(left_out))

    def _on_stdin(self) -> Iterator[Input]:
        if sys.stdin is None or sys.stdin.closed:
            raise DataError("-: stdin is closed; pipe a list of paths into it, one a line")
        root = "" if self._root is None else str(self._root.expanduser())
        for line in getattr(sys.stdin, "buffer", sys.stdin):
            path = os.fsdecode(line).rstrip("\r\n")
            if path:
                yield Input(path, InFile(os.path.join(root, path)))  # noqa: PTH118

    def _in_table(self, spec: str, file: Path, *, alone: bool) -> Iterator[Input]:
        with open_table(file, spec) as (titles, rows):
            title: str | None = None
            batches = _batched(rows, _ROWS)
            for number, batch in enumerate(batches):
                if title is None:
                    named = titles or dict.fromkeys(t for row in batch for t in row.cells)
                    title = column(
                        spec, dict.fromkeys(named), self._path_col, ("path",), "--path-col"
                    )
                paths = [row.cells.get(title, "") for row in batch]
                whole = alone and number == 0 and len(batch) < _ROWS
                places = [row.place for row in batch]
                yield from self._located(spec, file, paths, places, whole=whole)

    def _in_parquet(self, spec: str, file: Path, *, alone: bool) -> Iterator[Input]:
        try:
            from pyarrow import ArrowException
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise DataError(
                f'{spec}: Parquet is read by pyarrow: pip install "imgcls[parquet]"'
            ) from None
        try:
            check_regular(file)
            with ParquetFile(file) as parquet:
                yield from self._rows_of(spec, file, parquet, alone=alone)
        except ArrowException as error:
            raise _DamagedError(str(error)) from error

    def _rows_of(self, spec: str, file: Path, parquet: Any, *, alone: bool) -> Iterator[Input]:
        found = picture_column(spec, file, parquet.schema_arrow, self._path_col)
        if found.leaf is not None and found.names is None:
            for row in range(parquet.metadata.num_rows):
                yield Input(f"{spec}/{row:06d}", InParquet(str(file), found.leaf, row))
            return
        wanted = found.title if found.leaf is None else found.names
        # without threads, which do not outlive a fork
        batches = parquet.iter_batches(_ROWS, columns=[wanted], use_threads=False)
        row = 0
        for number, batch in enumerate(batches):
            values = batch.column(0)
            if found.leaf is None:
                paths = column_texts(file, found.title, partial(list, [values]))
                places = [f"row {at}" for at in range(row, row + len(paths))]
                whole = alone and number == 0 and len(paths) == parquet.metadata.num_rows
                yield from self._located(spec, file, paths, places, whole=whole)
                row += len(paths)
                continue
            for name in texts_of(values.field("path")):
                shown = f"{spec}/{row:06d}" + f"-{name}" * bool(name)
                yield Input(shown, InParquet(str(file), found.leaf, row))
                row += 1

    def _located(
        self, spec: str, table: Path, paths: Sequence[str], places: list[str], *, whole: bool
    ) -> Iterator[Input]:
        """Rows of a table; whole: these are all that there are."""
        root = (self._root or table.parent).expanduser().absolute()
        found = locate(spec, root, paths)
        self.notes.update((f"{spec}: {note}", None) for note in found.notes)
        files = [os.path.join(root, key) for key in found.keys]  # noqa: PTH118
        if whole and not any(map(os.path.exists, files)):
            refuse(spec, found.missing, paths)
        for path, file, place in zip(paths, files, places, strict=True):
            yield Input(path, InFile(file) if path else Nowhere(f"{place} has no path"))

    def _in_shards(self, spec: str, *, alone: bool) -> Iterator[Input]:
        shards = [shard for shard in shards_of(spec) if isinstance(shard, Path)]
        alone = alone and len(shards) == 1
        for shard in shards:
            shown = spec if len(shards) == 1 else _from_here(shard)
            pictures = (
                Input(f"{shown}/{name}", InTar(str(shard), start, size))
                for name, start, size in _pictures_in(shard, self._path_col)
            )
            yield from self._to_its_end(shown, pictures, alone=alone)


def _pictures_in(shard: Path, suffix: str | None) -> Iterator[tuple[str, int, int]]:
    """(name, first byte, bytes) of each picture in a shard.

    Raises DataError, and _DamagedError behind the pictures before the damage.
    """
    members: list[tarfile.TarInfo] = []
    damage = None
    with open_file(shard) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                while (info := archive.next()) is not None:
                    members.append(info)
                check_whole(archive)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  tarfile stumbles over whatever headers say
            damage = error
    for info, base, own in named_members(members, shard):
        name = f"{base}.{own}"
        if own == suffix if suffix is not None else is_picture(name):
            yield name, info.offset_data, info.size
    if damage is not None:
        raise _DamagedError(str(damage)) from damage


def _is_there(spec: str) -> bool:
    path = os.path.expanduser(spec)  # noqa: PTH111
    if spec == STDIN or is_there(path):
        return True
    if _suffix(spec) == ".tar":
        return bool(shards_of(spec))
    return glob.has_magic(path) and bool(_matches(path))


def _matches(pattern: str) -> list[str]:
    """What a glob finds, by name; ** goes into folders, which are then not named themselves."""
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  any root
    return [p for p in found if not os.path.isdir(p)] if "**" in pattern else found  # noqa: PTH112


def _suffix(spec: str) -> str:
    return os.path.splitext(spec)[1].lower()  # noqa: PTH122


def _from_here(path: Path) -> str:
    """The path from the current folder, where it lies below it."""
    here = Path.cwd()
    return (path.relative_to(here) if path.is_relative_to(here) else path).as_posix()


def _batched(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(itertools.islice(rows, size)):
        yield batch
