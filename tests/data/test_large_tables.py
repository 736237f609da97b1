"""Tables of very many rows: some hundred bytes a row, not a Python object for each."""

from __future__ import annotations

import tracemalloc

import pytest

from imgcls.data.open import open_source
from imgcls.data.splits.assign import assign_splits, assignment_from_rows, split_rows
from imgcls.data.splits.recorded import find_recorded
from imgcls.storage.splits import read_splits, recorded_splits
from imgcls.storage.tables import SPLIT_COLUMNS, write_csv

ROWS, FILES = 200_000, 1000


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A .csv of 200,000 paths that lead to 1,000 files by 200 links, each file of 200 bytes."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "pictures").mkdir()
    for number in range(FILES):
        (folder / "pictures" / f"IMG_{number:06d}.jpg").write_bytes(b"%200d" % number)
    for number in range(ROWS // FILES):
        (folder / f"set_{number:05d}").symlink_to("pictures")
    lines = [
        f"set_{row // FILES:05d}/IMG_{row % FILES:06d}.jpg,"
        f"class {row * 7 % 100},patient {row // 3}\n"
        # in no order
        for row in (number * 7919 % ROWS for number in range(ROWS))
    ]
    file = folder / "table.csv"
    file.write_text("path,label,group\n" + "".join(lines))
    return file


def bytes_a_row(job):
    """(the job's result, bytes a row that it keeps, and that the job takes at its highest)."""
    tracemalloc.start()
    try:
        result = job()
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return result, kept / ROWS, peak / ROWS


@pytest.mark.slow
def test_a_table_opens_splits_and_is_recorded_in_bounded_memory(large):
    """Of each row the path's 25 letters and the group's 14 are kept, and some 50 bytes beside."""
    table, kept, peak = bytes_a_row(lambda: open_source(str(large)))
    assert len(table) == ROWS
    assert kept < 100
    assert peak < 250

    def divide():
        return assign_splits(table, val_size=0.1, test_size=0.1, folds=0, seed=0)

    assignment, kept, peak = bytes_a_row(divide)
    assert 0.08 * ROWS < (assignment.split == "val").sum() < 0.12 * ROWS
    assert kept < 40
    assert peak < 300

    def record():
        write_csv(large.with_name("splits.csv"), SPLIT_COLUMNS, split_rows(table, assignment))
        return recorded_splits(split_rows(table, assignment)), table.fingerprint()

    _, kept, peak = bytes_a_row(record)
    assert kept < 1
    assert peak < 75

    def find():
        rows = read_splits(large.parent)
        found = find_recorded(table, rows, workers=0)
        return found.table, assignment_from_rows(found.table, rows)

    (found, again), kept, peak = bytes_a_row(find)
    assert found.keys == table.keys
    assert (again.split == assignment.split).all()
    assert kept < 200
    assert peak < 350
