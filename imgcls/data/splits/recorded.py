"""A run's pictures, found again in data that may have moved: by name, else by content."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from imgcls.columns.rows import TextRows, last_of_paths, matches
from imgcls.columns.texts import Texts
from imgcls.data.audit.contents import changed_since, digests_of, readable
from imgcls.data.pixels.decode import UnreadableImageError
from imgcls.data.table import FileState, ImageStore, SampleTable

# what the rows of splits.csv hold of a picture's content
DIGEST = "sha256"


@dataclass(frozen=True, eq=False)
class Recorded:
    """Data, with the names of a run.

    table: the pictures that were found, under the run's names, and those that the run does not
    have. changed: names whose content is not what the run recorded, and is nowhere else. renamed:
    how many were found by their content. found: names of the run that are there.
    """

    table: SampleTable
    changed: tuple[str, ...]
    renamed: int
    found: Texts


def find_recorded(
    table: SampleTable,
    rows: Sequence[Mapping[str, str]],
    *,
    since_s: float | None = None,
    compare: Collection[str] | None = None,
    keep_gone: bool = False,
    workers: int | str = "auto",
) -> Recorded:
    """The pictures that the rows of a splits.csv name.

    A picture of the same name is taken for the run's own unless its content differs from the one
    recorded. Contents are compared for the names in `compare` (None is all) whose files have
    changed since `since_s`; None is any time. For each that is missing or differs, all pictures
    that no name accounts for are read and compared by content.
    keep_gone: pictures that are not found stay in the table, as ones that cannot be read; those
    that are in no split always do.
    """
    recorded = last_of_paths(TextRows.of(rows, ("path",)))
    names, digests = recorded.columns["path"], _column(recorded, DIGEST)
    place = matches(names, table.keys)
    known = np.delete(np.arange(len(recorded)), digests.empty_rows())
    doubtful = [
        row
        for row in known[place[known] >= 0].tolist()
        if (compare is None or names[row] in compare)
        and changed_since(table.images, int(place[row]), since_s)
    ]
    now = dict(zip(doubtful, digests_of(table, place[doubtful].tolist(), workers), strict=True))
    others = [row for row in doubtful if now[row] not in ("", digests[row])]
    # one that cannot be read is a bad picture, not another one
    whole = readable(table, place[others].tolist(), workers)
    differ = {row for row, is_whole in zip(others, whole, strict=True) if is_whole}
    lost = [row for row in known.tolist() if place[row] < 0 or row in differ]
    renamed = 0
    if lost:
        kept = np.delete(place, [*differ])
        free = np.delete(np.arange(len(table)), kept[kept >= 0])
        read = {int(place[row]): digest for row, digest in now.items()}
        elsewhere = _by_content(table, free.tolist(), read, workers)
        for row in lost:
            candidates = elsewhere.get(digests[row])
            if candidates:
                place[row] = _take(candidates, table, _column(recorded, "label")[row])
                differ.discard(row)
                renamed += 1
    absent = np.flatnonzero(place < 0)
    gone = absent if keep_gone else absent[_column(recorded, "split").select(absent).empty_rows()]
    found = _under_their_names(table, recorded, place, gone)
    changed = tuple(sorted(names[row] for row in differ))
    return Recorded(found, changed, renamed, names.select(np.flatnonzero(place >= 0)))


def _column(rows: TextRows, title: str) -> Texts:
    """The texts of a column, "" in all rows where there is none."""
    return rows.columns.get(title) or Texts.repeated("", len(rows))


def _by_content(
    table: SampleTable, free: Sequence[int], read: Mapping[int, str], workers: int | str
) -> dict[str, list[int]]:
    """These rows, by digest."""
    unread = [row for row in free if row not in read]
    digests = {**read, **dict(zip(unread, digests_of(table, unread, workers), strict=True))}
    found: dict[str, list[int]] = defaultdict(list)
    for row in free:
        if digests[row]:
            found[digests[row]].append(row)
    return found


def _take(candidates: list[int], table: SampleTable, label: str) -> int:
    """One of several copies, of this class if there is one."""
    fitting = [row for row in candidates if table.class_names[table.labels[row]] == label]
    row = (fitting or candidates)[0]
    candidates.remove(row)
    return row


def _under_their_names(
    table: SampleTable, recorded: TextRows, place: np.ndarray, gone: np.ndarray
) -> SampleTable:
    """The table with the run's names, groups and digests; the pictures that are new keep theirs.

    place: the table's row of each that is recorded, -1 for none. gone: those of them to keep.
    """
    ours = np.sort(np.concatenate([np.flatnonzero(place >= 0), gone]))
    names = recorded.columns["path"].select(ours)
    new = np.delete(np.arange(len(table)), place[place >= 0])
    new = new[matches(table.keys.select(new), names) < 0]
    keys = Texts.joined([names, table.keys.select(new)])
    order = keys.order()
    keys = keys.select(order)
    # of each picture: its row in the table, and the one it is recorded in
    rows = np.concatenate([place[ours], new])[order]
    said = np.concatenate([ours, np.full(len(new), -1)])[order]
    absent = {*_column(recorded, "label").select(gone).distinct()} - {*table.class_names}
    if absent:
        class_names = [*table.class_names, *sorted(absent)]
        in_order = list(table.class_names) == sorted(table.class_names)
        table = table.relabel(sorted(class_names) if in_order else class_names)
    number = {name: index for index, name in enumerate(table.class_names)}
    labels = table.labels[np.maximum(rows, 0)]
    kept = _column(recorded, "label").select(said[rows < 0])
    labels[rows < 0] = [number[label] for label in kept]
    groups = None if table.groups is None else table.groups.picked(rows)
    given = _column(recorded, "group")
    if groups is None and _any(given.select(ours)):
        groups = given.picked(said)
    digests = _column(recorded, DIGEST).picked(said)
    return replace(
        table,
        keys=keys,
        labels=labels,
        images=(
            table.images
            if np.array_equal(rows, np.arange(len(table)))
            else _FoundImages(table.images, rows, keys)
        ),
        splits=None if table.splits is None else table.splits.picked(rows),
        groups=groups,
        folds=None if table.folds is None else np.where(rows < 0, -1, table.folds[rows]),
        digests=digests if _any(digests) else None,
        columns={title: texts.picked(rows) for title, texts in table.columns.items()},
    )


def _any(texts: Texts) -> bool:
    return len(texts.empty_rows()) < len(texts)


class _FoundImages(ImageStore):
    """Rows of another store; -1 is a picture that is gone, of which the name is left."""

    def __init__(self, images: ImageStore, rows: np.ndarray, keys: Texts) -> None:
        self._images = images
        self._rows = rows
        self._keys = keys
        self.decoding = images.decoding
        self.outlives_fork = images.outlives_fork

    def content(self, index: int) -> bytes:
        row = int(self._rows[index])
        if row < 0:
            raise UnreadableImageError("the file is gone")
        return self._images.content(row)

    def location(self, index: int) -> str:
        row = int(self._rows[index])
        return self._keys[index] if row < 0 else self._images.location(row)

    def state(self, index: int) -> FileState | None:
        row = int(self._rows[index])
        return None if row < 0 else self._images.state(row)
