"""Tables as files: whole or not there."""

from __future__ import annotations

import pytest

from imgcls.storage.tables import append_csv, read_csv, write_csv


def test_rows_come_back_as_they_went_in(tmp_path):
    """Commas, quotes, line ends within a cell, no ASCII; None is empty."""
    rows = [{"name": 'a,"b"\n甲虫', "n": "1"}, {"name": " é ", "n": None}]
    write_csv(tmp_path / "table.csv", ["name", "n"], iter(rows))
    assert read_csv(tmp_path / "table.csv") == [rows[0], {"name": " é ", "n": ""}]


def test_rows_that_break_off_leave_the_old_table(tmp_path):
    """And nothing beside it."""
    write_csv(tmp_path / "table.csv", ["n"], [{"n": "1"}])

    def rows():
        yield from ({"n": str(i)} for i in range(100_000))
        raise KeyError

    with pytest.raises(KeyError):
        write_csv(tmp_path / "table.csv", ["n"], rows())
    assert read_csv(tmp_path / "table.csv") == [{"n": "1"}]
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_a_row_that_is_added_is_read_back_as_it_was(tmp_path):
    """Also one with a lone carriage return, and a name that is no UTF-8."""
    file = tmp_path / "a.csv"
    row = {"path": "a\rb,\udcff", "label": 'c"d'}
    write_csv(file, ["path", "label"], [row])
    append_csv(file, ["path", "label"], row)
    assert read_csv(file) == [row, row]


@pytest.mark.parametrize("line", ["a\n", "a,b,c\n", '"' + "x" * 200_000])
def test_a_damaged_table_is_a_value_error(tmp_path, line):
    """A cell too few, one too many, and one that csv does not take."""
    file = tmp_path / "a.csv"
    file.write_text(f"path,label\na,b\n{line}")
    with pytest.raises(ValueError, match="line"):
        read_csv(file)
