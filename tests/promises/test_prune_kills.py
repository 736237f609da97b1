"""`imgcls runs prune` killed at any instant, and beside a training: nothing needed is ever lost."""

from __future__ import annotations

import shutil
import signal

import pytest
from conftest import OFFLINE
from killing import Launcher, wait_for

from imgcls.engine.checkpoint.folder import read_checkpoint, read_state
from imgcls.storage.pointers import find_checkpoint

pytestmark = pytest.mark.slow

TRAIN = (*OFFLINE, "--device", "cpu", "--no-preflight", "--keep", "all", "--name", "r")


@pytest.fixture(scope="module")
def trained_long(launcher, trained, tmp_path_factory):
    """A folder with a run of two folds that keeps six checkpoints of each."""
    root = tmp_path_factory.mktemp("long")
    arguments = ("train", str(trained / "photos"), *TRAIN, "--epochs", "6", "--folds", "2")
    assert launcher.run(root, *arguments, "--patience", "0") == 0
    return root


def whole(run):
    """The weights and states of best and last of both folds, all verified."""
    found = {}
    for fold in (0, 1):
        for which in ("best", "last"):
            checkpoint = read_checkpoint(find_checkpoint(run, fold, which), to_resume=True)
            read_state(checkpoint)
            found[fold, which] = (checkpoint.weights_sha256, checkpoint.sidecar.epoch)
    return found


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [
        ("os", "rename", (1, 2, 5, 9)),
        ("shutil", "rmtree", (1, 3, 8)),
        ("os", "unlink", (1, 2, 3, 6, 15)),
        ("os", "rmdir", (1, 4)),
        ("imgcls.jobs.runs.prune", "restore_pointers", (1, 2)),
    ],
)
def test_best_and_last_outlive_a_kill(launcher, trained_long, tmp_path, module, name, calls):
    """Wherever it comes; the next one ends the work, and a resumption goes on."""
    before = whole(trained_long / "outputs" / "r")
    for call in calls:
        folder = tmp_path / str(call)
        shutil.copytree(trained_long, folder, symlinks=True)
        run = folder / "outputs" / "r"
        for pointer in run.glob("fold_*/checkpoints/[bl]*t"):
            if module.startswith("imgcls"):
                pointer.unlink()
        pid = launcher.start(folder, "runs", "prune", "--yes", kill_at=(module, name, call))
        assert pid
        code = launcher.wait()
        assert code == -signal.SIGKILL, (folder / "log.txt").read_text()
        assert whole(run) == before
        assert launcher.run(folder, "runs", "prune", "--yes") == 0
        assert whole(run) == before
        left = {p.name for p in run.glob("fold_*/checkpoints/*")}
        assert not any(name.startswith(".") for name in left)
    assert launcher.run(folder, "resume", "outputs/r", "--epochs", "7") == 0


def test_a_training_beside_it_loses_nothing(launcher, trained, tmp_path):
    """It saves checkpoints while another process prunes again and again, and ends as ever."""
    other = Launcher()
    arguments = ("train", str(trained / "photos"), *TRAIN, "--epochs", "25", "--patience", "0")
    launcher.start(tmp_path, *arguments)
    run = tmp_path / "outputs" / "r"
    wait_for(lambda: len(list(run.glob("fold_0/checkpoints/step-*"))) > 1)
    before = len(list(run.glob("fold_0/checkpoints/step-*")))
    for _ in range(10):
        assert other.run(tmp_path, "runs", "prune", "--yes") == 0
    other.close()
    assert launcher.wait() == 0, (tmp_path / "log.txt").read_text()
    assert len(list(run.glob("fold_0/checkpoints/step-*"))) >= before
    assert read_checkpoint(find_checkpoint(run, 0, "last"), to_resume=True).sidecar.epoch == 25
    assert launcher.run(tmp_path, "resume", "outputs/r", "--epochs", "26") == 0
