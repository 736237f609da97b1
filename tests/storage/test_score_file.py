"""Scores on disk: whole, in order, or not there."""

from __future__ import annotations

import numpy as np
import pytest

from imgcls.errors import OutputError
from imgcls.storage.scores import ScoreFile


def test_rows_come_back_as_they_went_in(tmp_path):
    """Batches of several sizes, with more axes than two, mapped and read by NumPy alone."""
    rows = np.random.default_rng(0).normal(size=(7, 2, 3)).astype(np.float32)
    file = tmp_path / "logits.npy"
    with ScoreFile(file, 7) as scores:
        for part in (rows[:4], rows[4:5], rows[5:]):
            scores.append(part)
        mapped = scores.mapped()
    assert np.array_equal(mapped, rows)
    assert np.array_equal(np.load(file, mmap_mode="r"), rows)
    assert list(tmp_path.iterdir()) == [file]


def test_a_pass_that_breaks_off_leaves_nothing(tmp_path):
    """No file that is not whole."""
    file = tmp_path / "logits.npy"
    with pytest.raises(KeyError), ScoreFile(file, 2) as scores:
        scores.append(np.zeros((1, 2), dtype=np.float32))
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("rows", [2, 200_000])
def test_a_full_disk_is_one_line(tmp_path, rows):
    """/dev/full takes nothing, whether that is seen at the first batch or at the end."""
    scores = ScoreFile(tmp_path / "logits.npy", rows)
    (tmp_path / "logits.npy").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"logits\.npy: cannot be written: the disk is full"):
        with scores:
            scores.append(np.zeros((rows, 3), dtype=np.float32))
            scores.mapped()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_made_is_one_line(tmp_path):
    """Its folder is a file."""
    (tmp_path / "taken").write_text("x")
    with (
        pytest.raises(OutputError, match="cannot be written"),
        ScoreFile(tmp_path / "taken" / "x.npy", 1),
    ):
        pass
