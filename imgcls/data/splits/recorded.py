"""A run's pictures, found again in data that may have moved: by name, else by content."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

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
    found: frozenset[str]


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
    recorded = {row["path"]: row for row in rows}
    digests = {key: row.get(DIGEST) or "" for key, row in recorded.items()}
    position = {key: index for index, key in enumerate(table.keys)}
    place = {key: position[key] for key in recorded if key in position}
    doubtful = [
        key
        for key, index in place.items()
        if digests[key]
        and (compare is None or key in compare)
        and changed_since(table.images, index, since_s)
    ]
    now = digests_of(table, [place[key] for key in doubtful], workers)
    read = {place[key]: digest for key, digest in zip(doubtful, now, strict=True)}
    others = [key for key in doubtful if read[place[key]] not in ("", digests[key])]
    # one that cannot be read is a bad picture, not another one
    whole = readable(table, [place[key] for key in others], workers)
    differ = {key for key, is_whole in zip(others, whole, strict=True) if is_whole}
    lost = [k for k in recorded if digests[k] and (k in differ or k not in place)]
    renamed = 0
    if lost:
        elsewhere = _by_content(
            table, {*place.values()} - {place[k] for k in differ}, read, workers
        )
        for key in lost:
            candidates = elsewhere.get(digests[key])
            if candidates:
                label = recorded[key]["label"]
                place[key] = _take(candidates, table, label)
                differ.discard(key)
                renamed += 1
    gone = [
        key for key in recorded if key not in place and (keep_gone or not recorded[key]["split"])
    ]
    found = _under_their_names(table, recorded, place, gone)
    return Recorded(found, tuple(sorted(differ)), renamed, frozenset(place))


def _by_content(
    table: SampleTable, taken: Collection[int], read: Mapping[int, str], workers: int | str
) -> dict[str, list[int]]:
    """The rows that are not taken, by digest."""
    free = [index for index in range(len(table)) if index not in taken]
    unread = [index for index in free if index not in read]
    digests = {**read, **dict(zip(unread, digests_of(table, unread, workers), strict=True))}
    found: dict[str, list[int]] = defaultdict(list)
    for index in free:
        if digests[index]:
            found[digests[index]].append(index)
    return found


def _take(candidates: list[int], table: SampleTable, label: str) -> int:
    """One of several copies, of this class if there is one."""
    fitting = [row for row in candidates if table.class_names[table.labels[row]] == label]
    row = (fitting or candidates)[0]
    candidates.remove(row)
    return row


def _under_their_names(
    table: SampleTable,
    recorded: Mapping[str, Mapping[str, str]],
    place: Mapping[str, int],
    gone: Sequence[str],
) -> SampleTable:
    """The table with the run's names, groups and digests; the pictures that are new keep theirs."""
    ours = {**place, **dict.fromkeys(gone, -1)}
    taken = set(place.values())
    new = {
        key: index for index, key in enumerate(table.keys) if index not in taken and key not in ours
    }
    rows_of = {**ours, **new}
    keys = tuple(sorted(rows_of))
    absent = {recorded[key]["label"] for key in gone} - set(table.class_names)
    if absent:
        names = [*table.class_names, *sorted(absent)]
        in_order = list(table.class_names) == sorted(table.class_names)
        table = table.relabel(sorted(names) if in_order else names)
    number = {name: index for index, name in enumerate(table.class_names)}
    rows = np.array([rows_of[key] for key in keys], dtype=np.int64)
    nothing: dict[str, str] = {}
    said = [recorded.get(key, nothing) for key in keys]
    groups = None if table.groups is None else _picked(table.groups, rows)
    if groups is None and any(row.get("group") for row in said):
        groups = tuple(row.get("group", "") for row in said)
    splits = None if table.splits is None else _picked(table.splits, rows)
    digests = tuple(row.get(DIGEST) or "" for row in said)
    return replace(
        table,
        keys=keys,
        labels=np.array(
            [
                number[recorded[key]["label"]] if row < 0 else table.labels[row]
                for key, row in zip(keys, rows, strict=True)
            ],
            dtype=np.int64,
        ),
        images=(
            table.images
            if np.array_equal(rows, np.arange(len(table)))
            else _FoundImages(table.images, rows, keys)
        ),
        splits=splits,
        groups=groups,
        folds=None if table.folds is None else np.where(rows < 0, -1, table.folds[rows]),
        digests=digests if any(digests) else None,
        columns={name: _picked(values, rows) for name, values in table.columns.items()},
    )


def _picked(values: tuple[str, ...], rows: np.ndarray) -> tuple[str, ...]:
    return tuple(values[row] if row >= 0 else "" for row in rows)


class _FoundImages(ImageStore):
    """Rows of another store; -1 is a picture that is gone, of which the name is left."""

    def __init__(self, images: ImageStore, rows: np.ndarray, keys: tuple[str, ...]) -> None:
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
