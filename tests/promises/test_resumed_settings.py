"""Settings that may change on resume, those that may not, and what can go wrong in between."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import signal
import threading

import pytest
import torch
import yaml
from conftest import tiny_config
from PIL import Image

from imgcls.config.run import ResumeConfig
from imgcls.engine.checkpoint.folder import read_checkpoint, read_state
from imgcls.engine.training.events import StepDone
from imgcls.engine.training.state import Stateful
from imgcls.errors import (
    CheckpointError,
    DeviceMemoryError,
    NonFiniteError,
    OutputError,
    WorkerError,
)
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.train.assemble import assemble
from imgcls.jobs.train.restore import require_as_begun
from imgcls.jobs.train.resume import reopen_run
from imgcls.jobs.train.trainer import Trainer
from imgcls.storage.pointers import find_checkpoint

TRAIN = (
    "--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--epochs", "3", "--lr",
    "1e-3", "--device", "cpu", "--workers", "0", "--batch-size", "8",
)  # fmt: skip


@pytest.fixture
def run(command, photos):
    """A finished run of three epochs."""
    assert command("train", photos, *TRAIN).code == 0
    [folder] = (photos.parent / "outputs").iterdir()
    return folder


def history(run):
    with (run / "fold_0" / "history.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def last_state(run):
    return read_state(read_checkpoint(find_checkpoint(run, which="last")))


def test_every_part_with_a_state_is_saved(photos):
    """A new stateful part that is not in the TrainState fails here."""
    config = tiny_config(photos, optim={"model_ema": True}, augment={"mixup": 0.2, "reprob": 0.1})
    parts = assemble(make_plan(config), 0).parts
    saved = parts.train_state()
    inside = {id(part) for part in (saved.weights, *saved.parts.values())}
    # the optimizer stands in a wrapper, the loss has no parameters, the loader no position
    inside |= {id(parts.learner.optimizer)}
    for owner in (parts, parts.learner):
        for name, value in vars(owner).items():
            if isinstance(value, Stateful) and value.state_dict():
                assert id(value) in inside, name
    assert set(saved.parts) == {
        "progress", "tracker", "history", "optimizer", "schedule", "scaler", "rng", "model",
    }  # fmt: skip


def test_more_epochs_go_on_with_the_schedule_of_a_longer_run(run, command, photos):
    """`resume --epochs 6` on a finished run: six rows, the rates of a run of six epochs."""
    rates = [float(row["lr"]) for row in history(run)]
    done = command("resume", "--epochs", "6")
    assert done.code == 0, done.err
    rows = history(run)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert command("train", photos, *TRAIN, "--epochs", "6").code == 0
    [longer] = {p for p in run.parent.iterdir() if p != run}
    expected = [float(row["lr"]) for row in history(longer)]
    got = [float(row["lr"]) for row in rows]
    assert got[:3] == rates
    assert got[3:] == expected[3:]
    done = command("resume", run)
    assert (done.code, "is finished; --epochs N trains it longer" in done.out) == (0, True)
    assert yaml.safe_load((run / "config.yaml").read_text())["optim"]["epochs"] == 6


def test_another_batch_size_goes_on_with_a_warning(run, command):
    """The position in the schedule moves in proportion; exactness ends, and that is said."""
    done = command("resume", run, "--epochs", "5", "--batch-size", "17")
    assert done.code == 0, done.err
    assert "not exact from here on: batch size 17, before" in done.err
    assert len(history(run)) == 5
    # 34 training pictures: five steps an epoch before, two now
    assert last_state(run)["schedule"]["updates"] == 5 * 2
    assert last_state(run)["progress"]["step"] == 3 * 5 + 2 * 2


def change_config(run, group, name, value):
    file = run / "config.yaml"
    tree = yaml.safe_load(file.read_text())
    tree[group][name] = value
    file.write_text(yaml.safe_dump(tree))


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [("optim", "lr", 0.5), ("augment", "mixup", 0.7), ("runtime", "seed", 1)],
)
def test_a_changed_config_is_refused_unless_forced(run, command, group, name, value):
    """The difference is named; --force goes on all the same."""
    change_config(run, group, name, value)
    done = command("resume", run, "--epochs", "4")
    assert done.code == 2
    assert f"{group}.{name}" in done.err
    assert "--force" in done.err
    assert command("resume", run, "--epochs", "4", "--force").code == 0


def test_a_setting_is_not_free_because_its_name_begins_like_a_free_one(run):
    """Another fold may be named, another number of folds is another training."""
    plan = reopen_run(run, ResumeConfig())

    def with_data(**changed):
        data = plan.config.data.model_copy(update=changed)
        return plan.config.model_copy(update={"data": data})

    require_as_begun(with_data(fold=1), plan.data, run)
    with pytest.raises(CheckpointError, match=r"data\.folds = 0, the run now says 5"):
        require_as_begun(with_data(folds=5), plan.data, run)


def test_another_model_is_refused_by_its_first_tensor(run, command):
    """Not even --force makes other weights fit."""
    change_config(run, "model", "name", "test_resnet2")
    done = command("resume", run, "--epochs", "4", "--force")
    assert (done.code, len(done.error_lines)) == (2, 1)


def _state(run):
    """Every file of a run, with its content and when it was written; the lock says nothing."""
    files = [path for path in run.rglob("*") if path.name != ".lock"]
    return {
        path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in files
    }


@pytest.mark.parametrize("force", [False, True])
def test_a_refused_resumption_leaves_the_run_as_it_was(run, command, force):
    """Whether before the model is built or while the state is loaded into it."""
    change_config(run, "model", "name", "test_resnet2" if force else "test_vit")
    (run / "fold_0" / ".tmp-history.csv-1").touch()
    before = _state(run)
    done = command("resume", run, "--epochs", "4", "--workers", "1", *["--force"] * force)
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert _state(run) == before


def test_what_a_kill_left_half_written_goes_when_the_run_goes_on(run, command):
    """Beside the config and the history; of a file with another name nothing is known."""
    half = [run / ".tmp-config.yaml-123", run / "fold_0" / ".tmp-history.csv-123"]
    for file in half:
        file.write_text("a")
    (run / "mine.txt").write_text("a")
    assert command("resume", run, "--epochs", "4").code == 0
    assert not any(file.exists() for file in half)
    assert (run / "mine.txt").exists()


def test_changed_data_are_refused_unless_forced(run, command, photos):
    """A picture that went, one that came: named; with --force the others keep their places."""
    (photos / "china" / "003.jpg").unlink()
    Image.new("RGB", (48, 48)).save(photos / "china" / "new.jpg")
    done = command("resume", run, "--epochs", "4")
    assert done.code == 2
    assert "china/003.jpg" in done.err
    assert command("resume", run, "--epochs", "4", "--force").code == 0


def test_a_moved_output_folder_is_one_line(command, photos, tmp_path, monkeypatch):
    """The run's folder vanishes while it trains: exit 1, and nothing is made anew."""
    from imgcls.output.screens.training import TrainingView

    shown = TrainingView.__call__

    def vanish(self, event):
        shown(self, event)
        if type(event).__name__ == "EpochDone":
            shutil.rmtree(tmp_path / "outputs")

    monkeypatch.setattr(TrainingView, "__call__", vanish)
    done = command("train", photos, *TRAIN)
    assert done.code == 1
    assert "the folder is gone" in done.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_write_that_fails_is_one_line_and_the_run_can_go_on(
    command, photos, tmp_path, monkeypatch, number
):
    """Full, read-only, forbidden or broken: once the cause is gone, resume ends the run."""
    from imgcls.engine.checkpoint import checkpointer

    save, calls = checkpointer.save_checkpoint, []

    def fail_once(snapshot, folder):
        calls.append(folder)
        if len(calls) == 2:
            raise OSError(number, os.strerror(number))
        return save(snapshot, folder)

    monkeypatch.setattr(checkpointer, "save_checkpoint", fail_once)
    done = command("train", photos, *TRAIN)
    assert done.code == 1
    assert len(done.error_lines) == 1
    assert "cannot be written" in done.err
    assert "imgcls resume" in done.err
    assert command("resume").code == 0
    [run] = (tmp_path / "outputs").iterdir()
    assert len(history(run)) == 3


@pytest.mark.parametrize(
    ("ends_by", "expected"),
    [
        (KeyboardInterrupt, OutputError),
        (ValueError, OutputError),
        (NonFiniteError, NonFiniteError),
        (WorkerError, WorkerError),
    ],
)
def test_a_save_that_fails_behind_another_error_is_told(
    photos, tmp_path, monkeypatch, ends_by, expected
):
    """Its thread may be at work while the loop ends: exit 1, and both reasons, never silence."""
    from imgcls.engine.checkpoint import checkpointer

    ending = threading.Event()

    def fail(_snapshot, _folder):
        assert ending.wait(60)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def end(event):
        if isinstance(event, StepDone) and event.epoch == 2:
            ending.set()
            raise ends_by("it ended")

    monkeypatch.setattr(checkpointer, "save_checkpoint", fail)
    trainer = Trainer.begin(tiny_config(photos, runtime={"output": str(tmp_path)}), [end])
    with pytest.raises(expected) as caught:
        trainer.train_fold(0)
    told = [str(caught.value), *caught.value.details]
    assert caught.value.exit_code == 1
    assert sum("cannot be written: the disk is full" in line for line in told) == 1
    assert "it ended" in told[0] if expected is ends_by else caught.value.__context__ is not None


def test_a_dead_loader_process_is_one_line(command, photos, tmp_path, monkeypatch):
    """Killed by the system for want of memory, say: what to type is said."""
    from imgcls.data.loading.dataset import ImageDataset

    parent = os.getpid()
    item = ImageDataset.__getitem__

    def die(self, index):
        if os.getpid() != parent and index[0] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return item(self, index)

    monkeypatch.setattr(ImageDataset, "__getitem__", die)
    done = command("train", photos, *TRAIN, "--workers", "1")
    assert done.code == 1
    assert len(done.error_lines) == 1
    assert "imgcls resume --workers 0" in done.err
    assert command("resume", "--workers", "0").code == 0


def test_out_of_memory_says_what_keeps_the_effective_batch(photos, tmp_path, monkeypatch):
    """Half the batch, twice the accumulation."""
    monkeypatch.chdir(tmp_path)
    trainer = Trainer.begin(tiny_config(photos))

    def no_memory(*_arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("imgcls.engine.training.fit.train_step", no_memory)
    with pytest.raises(DeviceMemoryError, match=r"--batch-size 8 --grad-accum-steps 2"):
        trainer.train_fold(0)


def test_a_second_process_is_refused(run, command):
    """One writer at a time; the holder is named."""
    from imgcls.storage.lock import lock_run

    with lock_run(run):
        done = command("resume", run, "--epochs", "4")
    assert done.code == 2
    assert f"in use by process {os.getpid()}" in done.err
