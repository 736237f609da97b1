"""What the machine fails at is no bad picture: nothing is left out, and the run is saved."""

from __future__ import annotations

import errno
import json
import os

import pytest
import timm
import torch
from conftest import OFFLINE
from safetensors.torch import load_file, save_file

from imgcls.data import table as sources
from imgcls.data.pixels import decode as decoding
from imgcls.data.pixels.decode import DecodeSettings, UnreadableImageError, read_content
from imgcls.errors import ReadError
from imgcls.storage.pointers import find_checkpoint

TRAIN = (
    *OFFLINE, "--lr", "3e-3", "--device", "cpu", "--on-bad-image", "skip", "--no-preflight",
    "--batch-size", "8",
)  # fmt: skip
OF_THE_MACHINE = ("EMFILE", "ENFILE", "EIO", "ESTALE", "ENOMEM", "ETIMEDOUT", "ENOTCONN", "ENODEV")


class FailingAfter:
    """Opens files, the named one as often as it is allowed to; then the system says no."""

    def __init__(self, name, times, number):
        self._open, self._name, self.left, self._number = decoding.open_file, name, times, number

    def __call__(self, path):
        if os.fspath(path).endswith(self._name):
            self.left -= 1
            if self.left < 0:
                raise OSError(self._number, os.strerror(self._number), os.fspath(path))
        return self._open(path)


@pytest.mark.parametrize("name", OF_THE_MACHINE)
def test_what_the_machine_fails_at_is_no_bad_picture(monkeypatch, photos, name):
    """Open files, memory, a disk, a mount: an error with the file, whatever is skipped."""
    number = getattr(errno, name)
    monkeypatch.setattr(decoding, "open_file", FailingAfter("000.jpg", 0, number))
    with pytest.raises(ReadError, match=rf"china/000\.jpg: .*{os.strerror(number)}.*machine"):
        read_content(photos / "china/000.jpg")


@pytest.mark.parametrize("name", ["EACCES", "EISDIR", "ELOOP", "ENAMETOOLONG", "ENOENT"])
def test_what_the_file_is_at_fault_for_is_a_bad_picture(monkeypatch, photos, name):
    """No permission, no file."""
    number = getattr(errno, name)
    monkeypatch.setattr(decoding, "open_file", FailingAfter("000.jpg", 0, number))
    with pytest.raises(UnreadableImageError):
        read_content(photos / "china/000.jpg")


def test_want_of_memory_while_decoding_names_the_file(monkeypatch, photos):
    """In whatever reads pictures, and not "a picture that cannot be decoded"."""

    def without_memory(*_arguments, **_options):
        raise MemoryError

    monkeypatch.setattr(decoding, "open_image", without_memory)
    content = (photos / "china/000.jpg").read_bytes()
    with pytest.raises(MemoryError):
        decoding.decode(content, DecodeSettings())
    table = sources_of(photos)
    with pytest.raises(ReadError, match=r"china/000\.jpg: .*memory"):
        table.images.open(0)


def sources_of(photos):
    from imgcls.data.open import open_source

    table = open_source(str(photos))
    assert isinstance(table, sources.SampleTable)
    return table


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_failing_disk_ends_the_run_after_saving_and_it_goes_on_exactly(
    command, photos, tmp_path, monkeypatch, workers
):
    """The file is named, nothing is listed as bad; resumed, it ends as if nothing had been."""
    options = (*TRAIN, "--epochs", "2", "--name")
    assert command("train", photos, *options, "whole").code == 0
    run = tmp_path / "outputs" / "run"
    rows = (tmp_path / "outputs/whole/splits.csv").read_text().splitlines()
    name = next(row.split(",")[0] for row in rows if ",val," in row)
    with monkeypatch.context() as patched:
        often = FailingAfter(name, 1000, errno.EIO)
        patched.setattr(decoding, "open_file", often)
        assert command("train", photos, *options, "run", "--dry-run").code == 0
    with monkeypatch.context() as patched:
        # as often as planning reads it: then comes the first validation
        patched.setattr(decoding, "open_file", FailingAfter(name, 1000 - often.left, errno.EIO))
        done = command("train", photos, *options, "run", "--workers", workers)
    assert done.code == 1
    assert name in done.error_lines[-1]
    assert os.strerror(errno.EIO) in done.error_lines[-1]
    assert not (run / "bad_images.csv").exists()
    sidecar = json.loads((find_checkpoint(run, which="last") / "checkpoint.json").read_text())
    assert (sidecar["facts"]["step"], sidecar["facts"]["epoch"]) == (5, 0)
    assert command("resume", run).code == 0
    one, other = (
        load_file(find_checkpoint(run.parent / r, which="last") / "model.safetensors")
        for r in ("whole", "run")
    )
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_failing_disk_ends_the_check_before_training(command, photos, monkeypatch):
    """It does not leave the picture out."""
    monkeypatch.setattr(decoding, "open_file", FailingAfter("china/003.jpg", 0, errno.ESTALE))
    done = command("train", photos, *OFFLINE, "--on-bad-image", "skip")
    assert done.code == 1
    assert "china/003.jpg" in done.error_lines[0]
    assert "machine's fault" in done.error_lines[0]


@pytest.mark.parametrize("head", ["linear", "logistic"])
def test_the_features_pass_leaves_bad_pictures_out(command, photos, tmp_path, head):
    """Of the training and the val split, in each fold; counted, listed, and no batch of its own."""
    torch.manual_seed(0)
    weights = tmp_path / "weights.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), weights)
    (photos / "china/001.jpg").write_bytes(b"no picture")
    (photos / "flower/002.jpg").write_bytes(b"")
    options = (
        "--model", "test_resnet", "--weights", weights, "--img-size", "32", "--workers", "0",
        "--tune", "head", "--head", head, "--epochs", "2", "--no-preflight", "--folds", "2",
        "--test-size", "0",
    )  # fmt: skip
    refused = command("train", photos, *options)
    assert refused.code == 1
    assert "--on-bad-image skip" in refused.error_lines[0]
    done = command("train", photos, *options, "--on-bad-image", "skip", "--name", "run", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["bad_images"] == 2
    listed = (tmp_path / "outputs/run/bad_images.csv").read_text()
    assert "china/001.jpg" in listed
    assert "flower/002.jpg" in listed
    assert result["summary"]["pooled"]["samples"] == 46
