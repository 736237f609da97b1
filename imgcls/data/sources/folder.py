"""Image folders: one folder of pictures a class, perhaps below train/, val/ and test/.

photos/                      photos/
  beetle/  a.jpg  b.jpg        train/  beetle/  wasp/
  wasp/    c.jpg               val/    beetle/  wasp/     (or Validation/, dev/, seg_val/, ...)
                               test/   beetle/

Instead of class folders a metadata.csv or _classes.csv may give each picture's class.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from imgcls.config.reading import ReadingConfig
from imgcls.data.names import shortened
from imgcls.data.pixels.decode import UnreadableImageError, read_content
from imgcls.data.pixels.formats import IMAGE_SUFFIXES, kind_of, why_not_found
from imgcls.data.rows import Rows, sample_table
from imgcls.data.sources.files import FileImages
from imgcls.data.sources.layout import lay_out
from imgcls.data.sources.tree import TABLE_SUFFIXES, LeftOut, walk
from imgcls.data.table import SampleTable
from imgcls.errors import DataError


class FolderSource:
    """A folder of class folders, or of split folders with class folders in them."""

    options = frozenset({"group_regex", "layout"})

    def matches(self, spec: str) -> bool:
        """True for an existing folder."""
        return Path(spec).expanduser().is_dir()

    def read(self, spec: str, reading: ReadingConfig) -> SampleTable:
        """All pictures below the folder. Raises DataError when they are not a data set."""
        root = Path(spec).expanduser().absolute()
        try:
            rows = _rows(root, spec, reading)
        except OSError as error:
            raise DataError(f"{error.filename}: cannot be read ({error.strerror})") from error
        return sample_table(
            spec,
            root.name or "data",
            rows,
            lambda _order, keys: FileImages(root, keys),
            reading,
        )


def _rows(root: Path, spec: str, reading: ReadingConfig) -> Rows:
    left_out = LeftOut()
    folder = walk(str(root), left_out)
    if not folder.has_pictures():
        raise DataError(nothing_found(spec, left_out))
    layout = lay_out(folder, spec, reading.layout)
    below = len(str(root).rstrip(os.sep)) + 1
    keys = [path[below:].replace(os.sep, "/") for path in layout.paths]
    splits = layout.splits if any(layout.splits) else None
    notes = (*layout.notes, *passed_over(left_out))
    return Rows(keys, layout.labels, keys, splits, notes=notes)


def passed_over(left_out: LeftOut) -> Iterator[str]:
    """Notes of what lies in a folder and is no picture to use."""
    for counts, what in (
        (left_out.others, "no pictures"),
        (left_out.system, "what systems leave beside pictures"),
        (left_out.masks, "masks and labels of the pictures beside them"),
    ):
        if count := counts.total():
            files = "1 file is" if count == 1 else f"{count:,} files are"
            yield f"{files} passed over as {what}: {_kinds(counts)}"


def nothing_found(spec: str, left_out: LeftOut, wanted: str = "class folders with") -> str:
    """What to say of a folder without pictures, by what is in it; `wanted` was looked for."""
    others = left_out.others
    tables = [suffix for suffix in TABLE_SUFFIXES if others[suffix]]
    if tables:
        return f"{spec}: has no pictures, but {tables[0]} files; name them instead of the folder"
    for suffix, count in others.most_common():
        kind = _content_of(left_out.examples[suffix])
        if kind:
            return (
                f"{spec}: {count} files {'end in ' + suffix if suffix else 'have no suffix'} and "
                f"are {why_not_found(kind, suffix)}"
            )
    there = "" if not others else f"; its {others.total()} files are {_kinds(others)}"
    if not others and left_out.system:
        there = f"; there is only what systems leave: {_kinds(left_out.system)}"
    suffixes = " ".join(sorted(IMAGE_SUFFIXES))
    return f"{spec}: no pictures found in it{there}; looked for {wanted} {suffixes}"


def _content_of(file: str) -> str:
    try:
        return kind_of(read_content(Path(file)))
    except UnreadableImageError:
        return ""


def _kinds(counts: Counter[str]) -> str:
    named = ((name or "without a suffix", count) for name, count in counts.most_common() if count)
    return shortened(f"{count} {name}" for name, count in named)
