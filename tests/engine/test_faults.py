"""A checkpoint write that is stopped, or fails, at every single file-system operation."""

from __future__ import annotations

import errno
import os
import sys
from collections import Counter

import pytest
import torch
from torch import nn

from imgcls.engine import checkpoint as cp
from imgcls.engine.checkpoint import read_checkpoint, read_state, save_checkpoint, take_snapshot
from imgcls.engine.checkpointer import newest_sound_checkpoint, prune, write_and_link
from imgcls.engine.durable import pointed_at, write_text

STOP = "power cut"
FAULTS = {STOP: None, "ENOSPC": errno.ENOSPC, "EIO": errno.EIO}
AUDITED = {
    "open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.symlink", "os.truncate",
}  # fmt: skip


class Injector:
    """Counts the operations that change a folder, and lets the n-th one fail.

    Python's audit events announce opens, renames, links, removals and new folders before they
    happen; writing bytes and flushing them to the disk are wrapped, because no event tells them.
    """

    def __init__(self) -> None:
        self.folder = ""
        self.armed = False
        self.seen: list[str] = []
        self.fail_at = 0
        self.fault: str | None = None
        sys.addaudithook(self._audit)

    def begin(self, folder, fail_at=0, fault=None) -> None:
        self.folder, self.fail_at, self.fault = str(folder), fail_at, fault
        self.seen = []
        self.armed = True

    def end(self) -> None:
        self.armed = False

    def operation(self, name: str) -> None:
        if not self.armed:
            return
        self.seen.append(name)
        if len(self.seen) != self.fail_at:
            return
        if self.fault == STOP:
            os._exit(9)
        self.armed = False  # clean-up is not part of the fault
        raise OSError(FAULTS[self.fault], os.strerror(FAULTS[self.fault]))

    def _audit(self, event: str, arguments: tuple) -> None:
        if not self.armed or event not in AUDITED:
            return
        if event == "open":
            path, _mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes or not str(path).startswith(self.folder):
                return
        self.operation(event.removeprefix("os."))


@pytest.fixture(scope="module")
def injector():
    return Injector()


@pytest.fixture(autouse=True)
def _wrap(injector, monkeypatch):
    fsync, save_file = os.fsync, cp.save_file

    def counted_fsync(descriptor):
        injector.operation("fsync")
        return fsync(descriptor)

    def counted_save_file(tensors, file, **keywords):
        injector.operation("write tensors")
        save_file(tensors, file, **keywords)
        if injector.armed and injector.seen and len(injector.seen) + 1 == injector.fail_at:
            os.truncate(file, file.stat().st_size // 2)  # the cut came in the middle
        injector.operation("written")

    monkeypatch.setattr(os, "fsync", counted_fsync)
    monkeypatch.setattr(cp, "save_file", counted_save_file)


def model_of(value):
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def snapshot_of(value):
    facts = {"class_names": ["a", "b"], "epoch": value, "step": value}
    return take_snapshot(model_of(value), {}, facts, {"m": torch.full((3,), float(value))})


def write(folder, value):
    write_and_link(snapshot_of(value), folder, value, is_best=True)
    prune(folder, "last:1")


def assert_sound(folder):
    """Both links lead to whole checkpoints, the newest sound one is the old or the new."""
    for name in ("best", "last"):
        target = pointed_at(folder / name)
        assert target is not None, f"{name} leads nowhere"
        assert read_checkpoint(target).facts["step"] in (1, 2)
    newest, _ = newest_sound_checkpoint(folder)
    found = read_checkpoint(newest)
    assert found.facts["step"] in (1, 2)
    assert float(read_state(found)["m"][0]) == found.facts["step"]


def test_every_operation_survives_every_fault(injector, tmp_path):
    """The previous or the new checkpoint is there and valid, never neither; then all goes on."""
    count_folder = tmp_path / "count"
    count_folder.mkdir()
    write(count_folder, 1)
    injector.begin(count_folder)
    write(count_folder, 2)
    injector.end()
    operations = list(injector.seen)
    assert len(operations) > 20
    survived = Counter()
    for fault in FAULTS:
        for number, operation in enumerate(operations, start=1):
            folder = tmp_path / f"{fault[:2]}-{number}"
            folder.mkdir()
            write(folder, 1)
            if fault == STOP:
                child = os.fork()
                if child == 0:
                    injector.begin(folder, number, fault)
                    write(folder, 2)
                    os._exit(0)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
            else:
                injector.begin(folder, number, fault)
                try:
                    write(folder, 2)
                except OSError as error:
                    # what is being removed anyway may fail in silence
                    assert error.errno == FAULTS[fault]
                finally:
                    injector.end()
            assert_sound(folder)
            write(folder, 2)
            assert_sound(folder)
            assert not list(folder.glob(".tmp-step*")), "left-overs are cleared away"
            survived[operation, fault] += 1
    print(f"\n{len(operations)} operations of one checkpoint write, each stopped or failed once:")
    for operation, times in Counter(operations).items():
        row = "  ".join(f"{fault} {survived[operation, fault]}/{times}" for fault in FAULTS)
        print(f"  {operation:<14} {row}")


def test_a_text_file_is_the_old_or_the_new_one(injector, tmp_path):
    """history.csv, metrics and configs are replaced at once."""
    file = tmp_path / "history.csv"
    write_text(file, "old")
    injector.begin(tmp_path)
    write_text(file, "new")
    injector.end()
    for number in range(1, len(injector.seen) + 1):
        write_text(file, "old")
        injector.begin(tmp_path, number, "ENOSPC")
        with pytest.raises(OSError, match="No space left"):
            write_text(file, "new")
        injector.end()
        assert file.read_text() in ("old", "new")
        assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_vanished_is_not_made_anew(tmp_path):
    """A run moved away while it trained is not split in two."""
    with pytest.raises(FileNotFoundError):
        save_checkpoint(snapshot_of(1), tmp_path / "gone" / "step-00000001")
    assert not (tmp_path / "gone").exists()
