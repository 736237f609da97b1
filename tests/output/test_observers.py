"""What watches every run: its files, and whatever else the one list names."""

from __future__ import annotations

import csv

import pytest
from conftest import tiny_config

import imgcls
from imgcls.engine.training.events import EpochDone, FoldStarted, ImageSkipped, Stopped
from imgcls.errors import OutputError
from imgcls.jobs.train import trainer
from imgcls.output.observers import run_observers
from imgcls.output.run_files import BadImagesFile, HistoryFile

PAGE = {"fold": 0, "folds": (0,), "epochs": 2, "steps_per_epoch": 1, "val_batches": 1}


def started(folder, *rows):
    return FoldStarted(
        **PAGE, folder=folder, epoch=len(rows), step_in_epoch=0, history=rows, monitor="val_loss",
        calibrates=False,
    )  # fmt: skip


def rows_of(file):
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_one_line_in_the_list_watches_every_run(tmp_path, photos, monkeypatch):
    """Begun or gone on with, by whatever call; beside the observers that the caller brings."""
    heard, mine = [], []
    monkeypatch.setattr(
        trainer, "run_observers", lambda *about: (*run_observers(*about), heard.append)
    )
    config = tiny_config(photos, runtime={"output": str(tmp_path)}, optim={"epochs": 1})
    run = imgcls.train(config, (mine.append,)).run
    imgcls.resume(imgcls.ResumeConfig(run=run, epochs=2))
    assert [e.epoch for e in heard if isinstance(e, EpochDone)] == [1, 2]
    assert mine == heard[: len(mine)]
    assert len(rows_of(run / "fold_0" / "history.csv")) == 2


def test_each_fold_has_its_own_history(tmp_path):
    """Rewritten whole when a fold starts or an epoch ends, so that it holds what is saved."""
    keep = HistoryFile()
    first, second = ({"epoch": n, "val_loss": n / 2} for n in (1, 2))
    for fold in (0, 1):
        folder = tmp_path / f"fold_{fold}"
        folder.mkdir()
        keep(started(folder))
        assert not (folder / "history.csv").exists()
        keep(EpochDone(1, True, (first,)))
        keep(EpochDone(2, True, (first, second)))
        assert [row["epoch"] for row in rows_of(folder / "history.csv")] == ["1", "2"]
    keep(started(tmp_path / "fold_0", first))
    assert [row["val_loss"] for row in rows_of(tmp_path / "fold_0" / "history.csv")] == ["0.5"]


def test_a_history_that_cannot_be_written_says_how_to_go_on(tmp_path):
    """In the words of a failed checkpoint."""
    with pytest.raises(OutputError, match="go on with `imgcls resume"):
        HistoryFile()(started(tmp_path / "gone", {"epoch": 1}))


def test_pictures_are_listed_when_they_are_left_out_and_sorted_behind_the_fold(tmp_path):
    """At once, for a kill may follow; each once, though every fold leaves it out."""
    keep, file = BadImagesFile(tmp_path), tmp_path / "bad_images.csv"
    for fold in (0, 1):
        for key in ("b.jpg", "a.jpg"):
            keep(ImageSkipped(key, "cat", f"/photos/{key}", "truncated"))
            assert key in [row["path"] for row in rows_of(file)]
        keep(Stopped(fold, early=False, epoch=1, best_epoch=1))
    assert [tuple(row.values()) for row in rows_of(file)] == [
        ("a.jpg", "cat", "truncated"), ("b.jpg", "cat", "truncated"),
    ]  # fmt: skip
