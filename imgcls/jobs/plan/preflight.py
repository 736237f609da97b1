"""The check before training: are all pictures whole, and does a copy of one stand elsewhere?"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np

from imgcls.columns.texts import Texts
from imgcls.config.data import DataConfig
from imgcls.config.run import TrainConfig
from imgcls.data.audit.contents import digests_of
from imgcls.data.audit.duplicates import same_content
from imgcls.data.audit.findings import picture
from imgcls.data.audit.picture import check
from imgcls.data.audit.scan import scan
from imgcls.data.audit.sets import straddling
from imgcls.data.pixels.decode import UnreadableImageError
from imgcls.data.splits.assign import SplitAssignment, assign_splits
from imgcls.data.splits.groups import split_codes
from imgcls.data.table import SampleTable
from imgcls.errors import DataError
from imgcls.results.training import PreflightReport

# what is read at most: minutes, not hours, also from a disk on the network
_MOST_PICTURES = 200_000
_MOST_BYTES = 32 * 2**30
_STRETCH = 256
# pictures whose size is asked for, and those that have to be read for it
_SAMPLES, _FEW_SAMPLES = 1000, 16


@dataclass(frozen=True, eq=False)
class Preflight:
    """What reading the pictures of a table has found.

    unreadable: row -> reason. same: groups of rows with identical content.

    digests: the sha256 of the content of each row that was read, b"" where that failed. started:
    when the reading began, ISO 8601. read: how many rows were read.
    """

    unreadable: dict[int, str]
    same: list[list[int]]
    digests: Mapping[int, bytes]
    started: str
    read: int
    elapsed_s: float


def preflight(
    config: TrainConfig, table: SampleTable, on_picture: Callable[[int, int], None]
) -> Preflight | None:
    """Read all pictures of the table; None when that is off or they are in memory already.

    Raises DataError that names every picture that cannot be read, unless they are to be left out.
    """
    if not config.data.preflight or table.defaults.in_memory:
        return None
    started, start_s = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
    rows = rows_to_check(table, config.runtime.seed)
    unreadable: dict[int, str] = {}
    digests: dict[int, bytes] = {}
    facts = scan(
        table.images if len(rows) == len(table) else table.select(rows).images,
        len(rows),
        check,
        workers=config.runtime.workers,
        on_picture=on_picture,
    )
    for row, fact in zip(rows.tolist(), facts, strict=True):
        digests[row] = fact.digest
        if fact.reason:
            unreadable[row] = fact.reason
    if unreadable and config.data.on_bad_image == "error":
        reasons = set(unreadable.values())
        shared = f" ({reasons.pop()})" if len(reasons) == 1 else ""
        raise DataError(
            f"{config.data.source}: {len(unreadable):,} of {len(table):,} pictures cannot be "
            f"read{shared}, all listed above; repair them, or leave them out with "
            "--on-bad-image skip",
            details=[f"{table.images.location(row)}: {why}" for row, why in unreadable.items()],
        )
    whole = [b"" if row in unreadable else digest for row, digest in digests.items()]
    same = [rows[group].tolist() for group in same_content(whole)]
    elapsed_s = time.monotonic() - start_s
    return Preflight(unreadable, same, digests, started, len(rows), elapsed_s)


def rows_to_check(table: SampleTable, seed: int) -> np.ndarray:
    """The rows that the pre-flight reads, int64, rising: all of them up to a bound.

    Of more than 200,000 pictures, or than 32 GiB, as many as that: whole stretches of 256
    neighbours, drawn by the seed, so that the rows of a shard stay together. The size is estimated
    from pictures that stand evenly far apart.
    """
    count = len(table)
    allowed = min(count, _MOST_PICTURES, int(_MOST_BYTES / max(_mean_bytes(table), 1.0)))
    if allowed >= count:
        return np.arange(count)
    starts = np.random.default_rng(seed).permutation(np.arange(0, count, _STRETCH))
    drawn = np.concatenate([np.arange(s, min(s + _STRETCH, count)) for s in starts])
    return np.sort(drawn[: max(allowed, 1)])


def _mean_bytes(table: SampleTable) -> float:
    count = len(table)
    state = table.images.state(0)
    if state is None or state.size_bytes is None:
        rows = np.unique(np.linspace(0, count - 1, _FEW_SAMPLES, dtype=np.int64))
        sizes = []
        for row in rows.tolist():
            with contextlib.suppress(UnreadableImageError):
                sizes.append(len(table.images.content(row)))
    else:
        rows = np.unique(np.linspace(0, count - 1, _SAMPLES, dtype=np.int64))
        states = [table.images.state(row) for row in rows.tolist()]
        sizes = [found.size_bytes or 0 for found in states if found is not None]
    return float(np.mean(sizes)) if sizes else 0.0


def with_digests(table: SampleTable, checked: Preflight | None) -> SampleTable:
    """The table with what is known of its contents: of pictures in memory always all."""
    if checked is not None:
        digests = checked.digests
        known = (digests[row].hex() if row in digests else "" for row in range(len(table)))
        return replace(table, digests=Texts.of(known))
    if table.defaults.in_memory:
        return replace(table, digests=Texts.of(digests_of(table, range(len(table)))))
    return table


def split_readable(
    config: TrainConfig, table: SampleTable, checked: Preflight | None
) -> SplitAssignment:
    """A new split of what can be read; the rest is in no split, so that it can be told later."""
    unreadable = () if checked is None else checked.unreadable
    rows = np.delete(np.arange(len(table)), [*unreadable])
    if not len(rows):
        raise DataError(f"{config.data.source}: not one of its pictures can be read")
    assignment = assign_splits(
        table.select(rows) if unreadable else table,
        val_size=config.data.val_size,
        test_size=config.data.test_size,
        folds=config.data.folds,
        seed=config.runtime.seed,
    )
    unused = _unused_shares(config.data, table)
    assignment = replace(assignment, notes=(*assignment.notes, *unused))
    return assignment.spread(rows, len(table)) if unreadable else assignment


def _unused_shares(config: DataConfig, table: SampleTable) -> Iterator[str]:
    """A note on each share other than the default that the data or `--folds` leave no room for."""
    given = {*table.splits.distinct()} if table.splits is not None else set()
    has_folds = table.folds is not None
    reasons = {}
    if config.folds or has_folds:
        reasons["val_size"] = "each fold is validated on its own pictures"
    elif "val" in given:
        reasons["val_size"] = "the data say which pictures are val"
    if "test" in given:
        reasons["test_size"] = "the data say which pictures are test"
    elif given or has_folds:
        what = "folds" if has_folds else "splits"
        reasons["test_size"] = f"no test split is taken from data that bring their own {what}"
    for name, reason in reasons.items():
        value = getattr(config, name)
        if value != DataConfig.model_fields[name].default:
            yield f"--{name.replace('_', '-')} {value:g} is not used: {reason}"


def preflight_report(
    found: Preflight, table: SampleTable, assignment: SplitAssignment
) -> PreflightReport:
    """What the check found, once it is known which picture is in which split and fold."""
    splits, names = split_codes(assignment.split)
    # of k-fold, a fold and what stands outside them
    leaks = straddling(splits + len(names) * (assignment.fold + 1), found.same)
    conflicts = straddling(table.labels, found.same)
    return PreflightReport(
        pictures=len(table),
        unreadable=tuple(picture(table, row, why) for row, why in found.unreadable.items()),
        leaks=sum(map(len, leaks)),
        conflicts=sum(map(len, conflicts)),
        elapsed_s=found.elapsed_s,
        read=found.read,
        started=found.started,
    )
