"""A checkpoint write that is stopped, or fails, at every single file-system operation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from faults import FAULTS, largest_file
from torch import nn

from imgcls.engine.checkpoint import folder as cp
from imgcls.engine.checkpoint.checkpointer import find_sound, prune, write_and_link
from imgcls.engine.checkpoint.folder import (
    read_checkpoint,
    read_state,
    save_checkpoint,
    take_snapshot,
)
from imgcls.results.checkpoint import Sidecar
from imgcls.storage.durable import pointed_at, write_text
from imgcls.storage.pointers import best_of, last_of, settle


@pytest.fixture(autouse=True)
def _wrap(injector, monkeypatch):
    save_file = cp.save_file

    def counted_save_file(tensors, file, **keywords):
        injector.operation("write tensors")
        save_file(tensors, file, **keywords)
        if injector.armed and injector.seen and len(injector.seen) + 1 == injector.fail_at:
            os.truncate(file, file.stat().st_size // 2)  # the cut came in the middle
        injector.operation("written")

    monkeypatch.setattr(cp, "save_file", counted_save_file)


def model_of(value):
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def snapshot_of(value, *, best=True):
    said = Sidecar(class_names=("a", "b"), epoch=value, step=value, best=best)
    return take_snapshot(model_of(value), {}, said, {"m": torch.full((3,), float(value))})


class Training:
    """A fold that saves steps, pruning all it may, as the checkpointer does."""

    def __init__(self, folder) -> None:
        """Begin, or go on from what lies there."""
        self.folder = folder
        sound = find_sound(folder)
        self.step, self.best = 0, sound.best
        if sound.last is not None:
            self.step = sound.last.sidecar.step
            assert float(read_state(sound.last)["m"][0]) == self.step
            self.best = settle(folder, sound.best, sound.last.folder)

    def save(self, *, best) -> None:
        saved = write_and_link(snapshot_of(self.step + 1, best=best), self.folder, self.step + 1)
        self.step += 1
        self.best = saved if best else self.best
        prune(self.folder, "last:1", {saved, self.best})


def step_of(path):
    return None if path is None else read_checkpoint(path).sidecar.step


def standing(folder):
    """The steps of the best and the last checkpoint, verified, as evaluation finds them."""
    return step_of(best_of(folder)), step_of(last_of(folder))


# what is saved before and in the save that fails: is each one the best so far?
SAVES = {
    "the first": ((), True),
    "better than the one before": ((True,), True),
    "worse than an older one": ((True, False), False),
}


def begun(folder, before):
    """A fold that saved so many checkpoints."""
    folder.mkdir()
    training = Training(folder)
    for best in before:
        training.save(best=best)
    return training


def save_with_fault(injector, training, number, fault, *, best):
    """Save once more, while the operation of this number fails or stops the process."""
    error = injector.fail(training.folder, number, fault, lambda: training.save(best=best))
    # what is being removed anyway may fail in silence
    assert error is None or isinstance(error, OSError)


def assert_it_goes_on(folder):
    """Resuming and later saves lose nothing; the pointers are right again."""
    best, last = standing(folder)
    training = Training(folder)
    assert standing(folder) == (best, last)
    if last is not None:
        assert step_of(pointed_at(folder / "best")) == best
        assert step_of(pointed_at(folder / "last")) == last
    for is_best in (best is None, False):
        training.save(best=is_best)
    assert standing(folder) == (best or 1, (last or 0) + 2)
    assert not list(folder.glob(".tmp-*")), "left-overs are cleared away"
    assert len(list(folder.glob("step-*"))) == 2


@pytest.mark.parametrize("name", SAVES)
def test_every_operation_survives_every_fault(injector, tmp_path, name):
    """The state before or after the save is there, never neither; then all goes on.

    Whichever instant it is: between the checkpoint's name and the pointers, too, the best one is
    known, and neither resuming nor later saves lose it.
    """
    before, is_best = SAVES[name]
    training = begun(tmp_path / "count", before)
    states = [standing(training.folder)]
    operations = injector.count(training.folder, lambda: training.save(best=is_best))
    states.append(standing(training.folder))
    assert len(operations) > 20
    survived, between = Counter(), 0
    for fault in FAULTS:
        for number, operation in enumerate(operations, start=1):
            training = begun(tmp_path / f"{fault[:2]}-{number}", before)
            folder = training.folder
            save_with_fault(injector, training, number, fault, best=is_best)
            assert standing(folder) in states, (fault, operation)
            pointers = tuple(step_of(pointed_at(folder / link)) for link in ("best", "last"))
            between += pointers != standing(folder)
            assert_it_goes_on(folder)
            survived[operation, fault] += 1
    assert between > 0, "the harness meets the instants between a checkpoint and its pointers"
    print(f"\n{name}: {len(operations)} operations of a save, each stopped or failed once:")
    for operation, times in Counter(operations).items():
        row = "  ".join(f"{fault} {survived[operation, fault]}/{times}" for fault in FAULTS)
        print(f"  {operation:<14} {row}")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8, 1.0])
def test_a_file_that_may_not_grow_is_no_checkpoint(tmp_path, share):
    """The system stops the writer below safetensors, after a part of the weights or of the rest."""
    training = Training(tmp_path)
    training.save(best=True)
    weights = tmp_path / "step-00000001" / "model.safetensors"
    limit = int(share * weights.stat().st_size)
    with largest_file(limit), pytest.raises(OSError, match="File too large"):
        training.save(best=True)
    assert standing(tmp_path) == (1, 1)
    assert {p.name for p in tmp_path.iterdir()} == {"step-00000001", "best", "last"}
    Training(tmp_path).save(best=True)
    assert standing(tmp_path) == (2, 2)


FULL = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_faults import Training, standing
folder = Path(sys.argv[1])
training = Training(folder)
training.save(best=True)
full = folder / "full"
try:
    with full.open("wb", buffering=0) as stream:
        while stream.write(b"0" * 512):
            pass
except OSError:
    pass
try:
    training.save(best=True)
except OSError as error:
    print(error.strerror)
assert standing(folder) == (1, 1)
full.unlink()
Training(folder).save(best=True)
assert standing(folder) == (2, 2)
"""


def test_a_disk_that_is_full_for_real_keeps_what_was_saved(tmp_path):
    """On a file system of its own, where this machine lets one be mounted."""
    here = Path(__file__).parent
    mount = 'mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" -c "$3" "$1" "$4" "$5"'
    command = ["unshare", "-m", "sh", "-c", mount, "sh", tmp_path, sys.executable, FULL]
    done = subprocess.run(
        [*command, here, here.parent], capture_output=True, text=True, check=False
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "No space left on device\n"


def test_a_text_file_is_the_old_or_the_new_one(injector, tmp_path):
    """history.csv, metrics and configs are replaced at once."""
    file = tmp_path / "history.csv"
    write_text(file, "old")
    operations = injector.count(tmp_path, lambda: write_text(file, "new"))
    for number in range(1, len(operations) + 1):
        write_text(file, "old")
        assert injector.fail(tmp_path, number, "ENOSPC", lambda: write_text(file, "new"))
        assert file.read_text() in ("old", "new")
        assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_vanished_is_not_made_anew(tmp_path):
    """A run moved away while it trained is not split in two."""
    with pytest.raises(FileNotFoundError):
        save_checkpoint(snapshot_of(1), tmp_path / "gone" / "step-00000001")
    assert not (tmp_path / "gone").exists()
