"""Tracked runs of trainings that are really killed."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
from conftest import OFFLINE
from killing import kill_until_done, only_run
from tracked import history_of, mlflow_run

from imgcls.output.trackers.tensorboard import read_scalars
from imgcls.storage.runs import is_finished

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def must_be_true(folder):
    """One tracked run of the folder's run, which holds each row of history.csv once."""
    run = only_run(folder)
    history = history_of(run)
    _, _, metrics = mlflow_run(f"sqlite:///{folder / 'mlflow.db'}")
    scalars = read_scalars(run / "fold_0" / "tensorboard")
    for name, values in history.items():
        assert sorted(metrics[name]) == sorted(values.items()), name
        assert scalars[name] == {step: np.float32(value) for step, value in values.items()}
    return metrics


@pytest.mark.parametrize("seed", [0, 1])
def test_kills_leave_one_tracked_run_without_doubled_or_missing_steps(
    seed, launcher, photos, tmp_path
):
    """At any instant: while trackers load, between a checkpoint and its row, at the end.

    A kill comes within half of what the whole run takes, so that it is never over before the first.
    """
    options = [
        str(photos), *OFFLINE, "--batch-size", "16", "--device", "cpu", "--no-preflight",
        "--epochs", "5", "--log", "tensorboard,mlflow",
    ]  # fmt: skip
    straight, folder = tmp_path / "straight", tmp_path / "killed"
    straight.mkdir()
    folder.mkdir()
    begun = time.monotonic()
    assert launcher.run(straight, "train", *options) == 0
    longest_s = (time.monotonic() - begun) / 2
    killed, _ = kill_until_done(
        launcher, folder, options, kills=8, longest_s=longest_s, rng=random.Random(seed)
    )
    assert killed == 8
    assert "--log" not in (folder / "log.txt").read_text()
    metrics = must_be_true(folder)
    assert [step for step, _ in sorted(metrics["val_loss"])] == [1, 2, 3, 4, 5]
    assert is_finished(only_run(folder))


def test_what_a_kill_behind_the_last_checkpoint_lost_is_logged(launcher, photos, tmp_path):
    """The run counts as unfinished until its trackers have all of it; then it is left alone."""
    options = [
        str(photos), *OFFLINE, "--batch-size", "16", "--device", "cpu", "--no-preflight",
        "--epochs", "1", "--log", "tensorboard,mlflow",
    ]  # fmt: skip
    kill_at = ("imgcls.engine.checkpoint.checkpointer", "prune", 1)
    launcher.start(tmp_path, "train", *options, kill_at=kill_at)
    assert launcher.wait() == -9
    assert not is_finished(only_run(tmp_path))
    assert launcher.run(tmp_path, "resume") == 0
    metrics = must_be_true(tmp_path)
    assert [step for step, _ in metrics["val_loss"]] == [1]
    assert [step for step, _ in metrics["evaluate/val/accuracy"]] == [1]
    assert is_finished(only_run(tmp_path))
