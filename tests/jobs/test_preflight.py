"""Bad pictures: found before training, named, left out when asked, never replaced."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import socket

import pytest
import torch
from conftest import tiny_config
from safetensors.torch import load_file
from torch.utils.data import get_worker_info

from imgcls.config.load import load_config
from imgcls.config.run import ResumeConfig, TrainConfig
from imgcls.data.table import ImageStore
from imgcls.engine.training.events import EpochDone, StepDone
from imgcls.errors import BadImageError, InterruptedRunError
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.train.resume import reopen_run
from imgcls.jobs.train.start import start_run
from imgcls.jobs.train.trainer import train_run

TRAIN = (
    "--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--epochs", "2", "--lr",
    "3e-3", "--device", "cpu", "--workers", "0",
)  # fmt: skip


def cut(file, share=0.5):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def read_csv(file):
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def only_run(folder):
    [run] = (folder / "outputs").iterdir()
    return run


@pytest.fixture
def broken(photos):
    """Four of the 48 photos are damaged, each in its way: their names below the folder."""
    cut(photos / "china/001.jpg")
    cut(photos / "flower/002.jpg", 0.99)
    (photos / "flower/003.jpg").write_bytes(b"")
    (photos / "violet/004.jpg").write_text("<html>404</html>")
    return ["china/001.jpg", "flower/002.jpg", "flower/003.jpg", "violet/004.jpg"]


def test_the_preflight_stops_and_names_every_bad_picture(command, photos, broken, tmp_path):
    """Before the first epoch: exit 2, one line with the count, a line for each, no run folder."""
    done = command("train", photos, *TRAIN)
    assert done.code == 2
    assert len(done.error_lines) == 1
    assert "4 of 48 pictures cannot be read" in done.error_lines[0]
    assert "--on-bad-image skip" in done.error_lines[0]
    for name in broken:
        assert sum(line.startswith(str(photos / name)) for line in done.err.splitlines()) == 1
    assert not (tmp_path / "outputs").exists()


def test_what_the_system_says_of_an_unreadable_file_is_told(command, photos, monkeypatch):
    """A mount that fails, no permission: its words, with the file's name."""
    monkeypatch.chdir(photos / "china")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("zzz.jpg")  # a file that is there and cannot be opened
        done = command("train", photos, *TRAIN, "--output", photos.parent / "outputs")
    assert done.code == 2
    [line] = [line for line in done.err.splitlines() if line.startswith(str(photos))]
    reason = line.removeprefix(f"{photos / 'china/zzz.jpg'}: ")
    assert reason in ("is a socket, not a regular file", *map(os.strerror, errno.errorcode))


def test_skipped_pictures_are_counted_listed_and_in_no_split(command, photos, broken, tmp_path):
    """The run finishes; its files and --json say how many and which; evaluation agrees."""
    done = command("train", photos, *TRAIN, "--on-bad-image", "skip", "--json")
    assert done.code == 0, done.err
    assert "Checked     4 unreadable and left out, of 48 pictures" in done.err
    assert json.loads(done.out)["bad_images"] == 4
    run = only_run(tmp_path)
    listed = read_csv(run / "bad_images.csv")
    assert [row["path"] for row in listed] == broken
    assert listed[2] == {
        "path": "flower/003.jpg",
        "label": "flower",
        "reason": "the file is empty",
    }
    rows = read_csv(run / "splits.csv")
    assert len(rows) == 48
    assert [row["path"] for row in rows if row["split"] == ""] == broken
    report = json.loads(command("evaluate", "--no-report", "--json").out)
    assert report["metrics"]["samples"] == sum(row["split"] == "test" for row in rows)
    assert command("resume", "--epochs", "3").code == 0


def test_the_split_is_that_of_the_whole_pictures(command, photos, broken, tmp_path):
    """As if the bad ones had never been there."""
    assert command("train", photos, *TRAIN, "--on-bad-image", "skip").code == 0
    skipped = {r["path"]: r["split"] for r in read_csv(only_run(tmp_path) / "splits.csv")}
    shutil.rmtree(tmp_path / "outputs")
    for name in broken:
        (photos / name).unlink()
    assert command("train", photos, *TRAIN).code == 0
    without = {r["path"]: r["split"] for r in read_csv(only_run(tmp_path) / "splits.csv")}
    assert {path: split for path, split in skipped.items() if split} == without


def test_a_set_with_nothing_to_read_is_refused(command, photos):
    """There is nothing to skip to."""
    for file in photos.rglob("*.jpg"):
        file.write_bytes(b"")
    done = command("train", photos, *TRAIN, "--on-bad-image", "skip")
    assert done.code == 2
    assert "not one of its pictures can be read" in done.error_lines[0]


def test_the_plan_says_in_one_line_what_was_found(command, photos):
    """Nothing; or copies between splits and labels; and nothing is read with --no-preflight."""
    plan = ("train", photos, *TRAIN, "--dry-run")
    good = "Checked     all 48 pictures are whole, none has a copy in another split"
    assert good in command(*plan).out
    for index in range(16):
        shutil.copy(photos / "china/000.jpg", photos / f"china/copy{index}.jpg")
    assert "Checked     17 with an identical copy in another split, of 64" in command(*plan).out
    shutil.copy(photos / "violet/001.jpg", photos / "flower/copy.jpg")
    [line] = [line for line in command(*plan).out.splitlines() if line.startswith("Checked")]
    assert "2 with one under another label, of 65 pictures; see imgcls inspect" in line
    assert "Checked" not in command(*plan, "--no-preflight").out


def test_copies_in_two_folds_are_leaks(command, photos):
    """Each fold is validated by a model that saw the others."""
    for index in range(20):
        shutil.copy(photos / "china/000.jpg", photos / f"china/copy{index}.jpg")
    options = ("--folds", "3", "--test-size", "0", "--dry-run", "--json")
    plan = json.loads(command("train", photos, *TRAIN, *options).out)
    assert plan["preflight"]["leaks"] == 21


def test_without_preflight_bad_pictures_are_left_out_on_the_way(command, photos, broken, tmp_path):
    """Each noted once, however many epochs meet it; listed in the end."""
    done = command("train", photos, *TRAIN, "--no-preflight", "--on-bad-image", "skip")
    assert done.code == 0, done.err
    run = only_run(tmp_path)
    assigned = {row["path"]: row["split"] for row in read_csv(run / "splits.csv")}
    met = [name for name in broken if assigned[name] != "test"]
    assert met
    assert sorted(row["path"] for row in read_csv(run / "bad_images.csv")) == met
    notes = [line for line in done.err.splitlines() if "left out" in line]
    assert len(notes) == len(met)


def weights(run):
    return load_file(run / "fold_0" / "checkpoints" / "last" / "model.safetensors")


def test_a_resumed_run_that_skips_is_exact(photos, broken, tmp_path):
    """Interrupted in the middle of an epoch that meets bad pictures: the same weights."""
    config = tiny_config(
        photos,
        data={"on_bad_image": "skip", "preflight": False, "batch_size": 6},
        augment={"mixup": 0.2},
        runtime={"output": tmp_path / "runs"},
    )
    whole = start_run(make_plan(config))
    train_run(make_plan(config), whole)

    class StopAfter:
        def __init__(self, steps):
            self.left = steps

        def __call__(self, event):
            if isinstance(event, StepDone):
                self.left -= 1
                if not self.left:
                    os.kill(os.getpid(), 2)

    parted = start_run(make_plan(config))
    with pytest.raises(InterruptedRunError):
        train_run(make_plan(config), parted, observers=(StopAfter(8),))
    assert read_csv(parted / "bad_images.csv"), "written down as they were met"
    train_run(reopen_run(parted, ResumeConfig()), parted)
    one, other = weights(whole), weights(parted)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert read_csv(whole / "bad_images.csv") == read_csv(parted / "bad_images.csv")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_deleted_while_training_is_one_line(photos, tmp_path, workers):
    """With its name; the run goes on without it, or once it is back."""
    config = tiny_config(
        photos, optim={"epochs": 3}, runtime={"output": tmp_path / "runs", "workers": workers}
    )
    run = start_run(make_plan(config))
    victim = photos / "china/001.jpg"
    kept = victim.read_bytes()

    def delete(event):
        if isinstance(event, EpochDone):
            victim.unlink(missing_ok=True)

    plan = make_plan(load_config(TrainConfig, run / "config.yaml"), read_csv(run / "splits.csv"))
    assert "china/001.jpg" in {
        plan.data.table.keys[i] for i in plan.data.assignment.indices("train")
    }
    with pytest.raises(BadImageError, match=r"china/001\.jpg: cannot be read \(the file is gone\)"):
        train_run(plan, run, observers=(delete,))
    victim.write_bytes(kept)
    train_run(reopen_run(run, ResumeConfig()), run)


def test_resume_may_begin_to_skip(command, photos, tmp_path):
    """A picture that broke in the night costs neither the run nor the place in it."""
    assert command("train", photos, *TRAIN).code == 0
    rows = read_csv(only_run(tmp_path) / "splits.csv")
    victim = next(row["path"] for row in rows if row["split"] == "train")
    cut(photos / victim)
    failed = command("resume", "--epochs", "3")
    assert failed.code == 1
    assert victim in failed.error_lines[0]
    done = command("resume", "--epochs", "3", "--on-bad-image", "skip", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["bad_images"] == 1


def test_evaluation_names_or_leaves_out(command, photos, tmp_path):
    """By the same option; what is scored is counted, what is not is listed beside it."""
    assert command("train", photos, *TRAIN).code == 0
    run = only_run(tmp_path)
    test = [row["path"] for row in read_csv(run / "splits.csv") if row["split"] == "test"]
    kept = (photos / test[0]).read_bytes()
    cut(photos / test[0])
    failed = command("evaluate")
    assert failed.code == 1
    assert test[0] in failed.error_lines[0]
    done = command("evaluate", "--on-bad-image", "skip", "--no-report", "--json")
    report = json.loads(done.out)
    assert report["metrics"]["samples"] == len(test) - 1
    assert "1 of 7 test pictures cannot be read" in report["notes"][-1]
    folder = run / "fold_0" / "test_results" / "test"
    assert [row["path"] for row in read_csv(folder / "bad_images.csv")] == [test[0]]
    assert test[0] not in {row["path"] for row in read_csv(folder / "predictions.csv")}
    (photos / test[0]).write_bytes(kept)
    assert command("evaluate", "--on-bad-image", "skip", "--no-report").code == 0
    assert not (folder / "bad_images.csv").exists()


def test_folds_are_summed_up_without_pictures_that_broke(photos, tmp_path):
    """The night's last step does not fail over what training left out."""
    config = tiny_config(
        photos,
        data={"on_bad_image": "skip", "folds": 2, "test_size": 0.0},
        optim={"epochs": 1},
        runtime={"output": tmp_path / "runs"},
    )
    plan = make_plan(config)
    run = start_run(plan)

    def damage(event):
        if isinstance(event, EpochDone):
            (photos / "china/001.jpg").write_bytes(b"")

    result = train_run(plan, run, observers=(damage,))
    assert result.bad_images == 1
    assert result.summary["pooled"]["samples"] == 47


@pytest.mark.parametrize(
    ("columns", "data", "reasons"),
    [
        ("split", {}, []),
        ("split", {"val_size": 0.3}, ["--val-size 0.3 is not used: the data say which pictures"]),
        ("split", {"test_size": 0.0}, ["--test-size 0 is not used: the data say which pictures"]),
        ("train", {"val_size": 0.3}, []),
        ("train", {"test_size": 0.3}, ["--test-size 0.3 is not used: no test split is taken"]),
        ("fold", {"val_size": 0.3, "test_size": 0.3}, ["--val-size 0.3", "--test-size 0.3"]),
        ("none", {"val_size": 0.3, "test_size": 0.2}, []),
        ("none", {"val_size": 0.3, "folds": 2}, ["--val-size 0.3 is not used: each fold"]),
    ],
)
def test_a_share_that_the_data_leave_no_room_for_is_told(photos, tmp_path, columns, data, reasons):
    """The data's own splits and folds win, and --folds over --val-size; not without a word."""
    rows = ["path,label,mark" if columns == "none" else f"path,label,{columns}"]
    for index, file in enumerate(sorted(photos.rglob("*.jpg"))):
        mark = {"split": ("train", "val", "test")[index % 3], "fold": index % 2}.get(
            columns, "train"
        )
        rows.append(f"{file.relative_to(tmp_path)},{file.parent.name},{mark}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(rows).replace("label,train", "label,split"))
    plan = make_plan(tiny_config(table, data=data))
    told = [note for note in plan.data.assignment.notes if "is not used" in note]
    assert len(told) == len(reasons)
    assert all(note.startswith(reason) for note, reason in zip(told, reasons, strict=True))


def test_a_process_that_dies_over_a_picture_names_it(command, photos, monkeypatch):
    """Killed by the picture, or for want of memory: exit 1 and one line with the file."""
    read = ImageStore.open_crop

    def deadly(store, index, choose):
        if get_worker_info() is not None and store.location(index).endswith("china/001.jpg"):
            os.kill(os.getpid(), signal.SIGKILL)
        return read(store, index, choose)

    monkeypatch.setattr(ImageStore, "open_crop", deadly)
    done = command("train", photos, *TRAIN, "--workers", "2")
    [line] = done.error_lines
    assert f"died at {photos / 'china/001.jpg'}, often for want of memory" in line
    assert "Traceback" not in done.err
    assert done.code == 1
