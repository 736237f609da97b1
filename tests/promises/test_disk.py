"""A disk that is full, read-only or failing: one line that says so, and nothing lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import OFFLINE
from faults import largest_file

from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.storage.pointers import find_checkpoint

TRAIN = (*OFFLINE, "--epochs", "2", "--batch-size", "16", "--experiment", "r", "--quiet")


def leftovers():
    return [str(path) for path in Path("outputs").rglob(".tmp-*")]


def test_a_checkpoint_that_does_not_fit_is_one_line_and_the_run_goes_on(command, photos):
    """The first one and later ones; resuming while there is still no room says so again."""
    with largest_file(60_000):
        for arguments in (("train", photos, *TRAIN), ("resume",)):
            done = command(*arguments)
            assert done.code == 1
            [line] = done.error_lines
            assert "checkpoints: cannot be written: the file is larger than may be written" in line
            assert leftovers() == []
    assert command("resume").code == 0
    with largest_file(60_000):
        assert command("resume", "--epochs", "3").code == 1
    assert leftovers() == []
    assert read_checkpoint(find_checkpoint(Path("outputs/r"), which="last")).sidecar.epoch == 2
    assert command("resume", "--epochs", "3").code == 0


def test_where_not_even_the_config_can_be_written_nothing_is_left(command, photos):
    """Neither of a run that was to begin nor of one that was to go on."""
    with largest_file(100):
        done = command("train", photos, *TRAIN)
    assert done.code == 2
    assert "cannot make a folder for the run: the file is larger" in done.error_lines[0]
    assert list(Path("outputs").iterdir()) == []
    assert command("train", photos, *TRAIN).code == 0
    before = sorted(Path("outputs/r").rglob("*"))
    config = Path("outputs/r/config.yaml").read_bytes()
    with largest_file(100):
        done = command("resume", "--epochs", "3")
    assert done.code == 1
    assert "outputs/r: cannot be written: the file is larger" in done.error_lines[0]
    assert sorted(Path("outputs/r").rglob("*")) == before
    assert Path("outputs/r/config.yaml").read_bytes() == config


def test_a_read_only_run_is_not_resumed(command, photos, tmp_path):
    """One line, on a file system of its own where this machine lets one be mounted."""
    assert command("train", photos, *TRAIN).code == 0
    script = 'mount --bind outputs outputs && mount -o remount,bind,ro outputs && exec "$@"'
    resume = [sys.executable, "-m", "imgcls", "resume", "outputs/r", "--epochs", "3"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *resume],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("imgcls:")]
    assert "outputs/r/.lock: cannot be written, so the run cannot be locked: the disk is" in line


FEATURES = """
import sys
from imgcls.jobs.train.head import features
features._MOST_IN_MEMORY_BYTES = 0
values = features._new_array((1, 100, int(sys.argv[1])))
values[:] = 1
print(values.sum())
"""


@pytest.mark.parametrize(("numbers", "fits"), [(100, True), (1000, False)])
def test_features_that_do_not_fit_on_the_disk_are_one_line(tmp_path, numbers, fits):
    """A file with holes that is mapped into memory kills the process when the disk is full."""
    small = 'mount -t tmpfs -o size=64k tmpfs "$TMPDIR" && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", small, "sh", sys.executable, "-c", FEATURES, str(numbers)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no file system can be mounted here")
    if fits:
        assert done.stdout == "10000.0\n", done.stderr
    else:
        assert done.returncode == 1
        assert f"OutputError: {tmp_path}: cannot be written: the disk is full" in done.stderr


@pytest.mark.parametrize("name", ["history.csv", "config.yaml"])
def test_a_file_of_the_run_that_cannot_be_written_is_one_line(command, photos, monkeypatch, name):
    """Whichever it is; what was saved before is good."""
    assert command("train", photos, *TRAIN).code == 0
    replace = os.replace

    def full(source, target):
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    done = command("resume", "--epochs", "3")
    assert done.code == 1
    assert "cannot be written: the disk is full; free some space" in done.error_lines[0]
    assert leftovers() == []


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ECONNRESET, errno.EIO])
def test_an_error_of_the_system_elsewhere_is_not_told_as_one_of_writing(
    command, photos, monkeypatch, code
):
    """A loader's connection, too many open files, a disk that cannot be read."""

    def broken(*_arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("imgcls.engine.training.fit.train_step", broken)
    done = command("train", photos, *TRAIN)
    assert done.code == 1
    [line] = done.error_lines
    assert f"the system refused what is needed ({os.strerror(code)})" in line
    assert "written" not in line
    assert "imgcls resume outputs/r" in line
