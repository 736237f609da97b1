"""A run's own split, found in data that lie elsewhere."""

from __future__ import annotations

import numpy as np

from imgcls.data.splits.assign import assignment_from_rows
from imgcls.data.splits.recorded import DIGEST, find_recorded
from imgcls.data.table import SampleTable
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.errors import DataError
from imgcls.storage.runs import run_of
from imgcls.storage.splits import keys_in, read_splits, trained_by

_SHOWN = 5


def own_split_in(
    table: SampleTable, data: str, checkpoint: Checkpoint, split: str, *, skip: bool
) -> tuple[SampleTable, str] | None:
    """The pictures of the run's own split that are in a table, and a note; None for other data.

    Data hold the split when each of its pictures is there, by its name and content or by its
    content alone. Of a picture without a recorded content the name has to do, and then all names
    of the run have to be there. skip: those that are missing stay, as ones that cannot be read;
    those that have other contents are passed over, as the note says. Raises DataError where only
    half of the split, or more, is there, and for a changed class.
    """
    run = run_of(checkpoint.folder)
    if run is None:
        return None
    rows = trained_by(read_splits(run), checkpoint.facts.get("splits"))
    wanted = set() if rows is None else {*keys_in(rows, split, checkpoint.fold)}
    if not rows or not wanted:
        return None
    mine = [row for row in rows if row["path"] in wanted]
    by_name = sum(not row.get(DIGEST) for row in mine)
    if by_name and not {row["path"] for row in rows} <= set(table.keys):
        return None
    found = find_recorded(table, mine, keep_gone=skip)
    changed = set(found.changed)
    here = found.found - changed
    missing = sorted(wanted - here)
    if 2 * len(missing) > len(wanted):
        return None
    if missing and not skip:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise DataError(
            f"{data}: has {len(here):,} of the {len(wanted):,} pictures of the run's {split} "
            f"split; missing are {shown}; put them there, leave them out with --on-bad-image "
            "skip, or leave --split out to score all that is there"
        )
    keys = found.table.keys
    own = found.table.select(np.array([row for row, k in enumerate(keys) if k in wanted - changed]))
    unchanged = [row for row in mine if row["path"] not in changed]
    assignment_from_rows(own, unchanged)  # refuses other classes than the run's
    note = f"{data} holds the run's own {split} split, and that is what is scored"
    if found.renamed:
        note += f"; {found.renamed:,} of its pictures have other names there"
    if changed:
        note += f"; {len(changed):,} have other contents there, and are passed over"
    if by_name:
        note += f"; {by_name:,} are known by their names alone"
    if others := len(table) - len(here):
        note += f"; {others:,} other pictures are passed over"
    return own, note
