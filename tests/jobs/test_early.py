"""What is wrong with a request is said before torch is loaded, and says which part of it."""

from __future__ import annotations

import shutil
import sys
import tarfile

import pytest
from conftest import OFFLINE


@pytest.fixture
def without_torch(monkeypatch):
    """Whatever needs torch cannot be imported."""
    for name in (
        "imgcls.engine.device.runtime",
        "imgcls.jobs.evaluate.evaluate",
        "imgcls.jobs.benchmark.run",
    ):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def run(tmp_path):
    """A run's folder, as far as names go."""
    checkpoint = tmp_path / "runs" / "r" / "fold_0" / "checkpoints" / "step-00000002"
    checkpoint.mkdir(parents=True)
    return checkpoint.parents[2]


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize(
    "inside", ["fold_7", "fold_0/checkpoints/step-99", "fold_7/checkpoints/best"]
)
@pytest.mark.parametrize("verb", ["evaluate", "benchmark"])
def test_a_checkpoint_that_is_not_in_its_run_is_told_at_once(command, run, verb, inside):
    """The run is there, which says nothing of the checkpoint."""
    done = command(verb, run / inside)
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert f"{inside}: no such file or folder" in done.err


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize("place", ["afile", "afile/new", "afile/new/er"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "photos", "--output"),
        ("tune", "photos", "--output"),
        ("evaluate", "runs/r", "--results-dir"),
        ("report", "runs/r", "--results-dir"),
    ],
)
def test_a_file_in_the_way_of_a_folder_is_named(command, photos, run, tmp_path, arguments, place):
    """That something is no directory does not say which part of a path it is."""
    (tmp_path / "afile").touch()
    done = command(*arguments, place)
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert f"{arguments[-1]} {place}: afile is a file, not a folder" in done.err


def test_a_file_in_the_way_of_a_file_is_named(command, photos, tmp_path):
    """The same for outputs that are files."""
    (tmp_path / "afile").touch()
    for option, name in (("--html", "x.html"), ("--fix-manifest", "x.csv")):
        done = command("inspect", photos, option, f"afile/{name}")
        assert (done.code, len(done.error_lines)) == (2, 1), done.err
        assert "afile is a file, not a folder" in done.err
    done = command("benchmark", "test_resnet", "--csv", "afile/x.csv")
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert "afile is a file, not a folder" in done.err


def test_folders_of_pictures_in_an_archive_are_to_be_unpacked(command, photos, tmp_path):
    """A tar of class folders is no WebDataset shard, and a zip is none either."""
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        archive.add(photos, "photos")
    shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path, "photos")
    for name in ("photos.tar", "photos.zip"):
        done = command("inspect", name)
        assert (done.code, len(done.error_lines)) == (2, 1), done.err
        assert "unpack it" in done.err
        assert "name the folder" in done.err


@pytest.mark.usefixtures("without_torch")
def test_models_with_commas_between_them_are_told_apart(command):
    """Options of benchmark take commas, its models spaces."""
    done = command("benchmark", "resnet18,resnet34")
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert "with spaces between them: resnet18 resnet34" in done.err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("inspect", "huge.csv"), "a line in it has more than 67,108,864 characters"),
        (("inspect", "huge.jsonl"), "a line in it has more than 67,108,864 characters"),
        (("train", "--config", "huge.yaml"), "is larger than memory: 8,192.0 GiB"),
    ],
)
def test_a_file_that_memory_does_not_hold_is_named(command, tmp_path, arguments, reason):
    """A sparse file of many terabytes, as a copy that went wrong leaves it."""
    try:
        with (tmp_path / arguments[-1]).open("wb") as stream:
            stream.truncate(2**43)
    except OSError:
        pytest.skip("no file system for a sparse file of 8 TiB")
    done = command(*arguments)
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert f"{arguments[-1]}: cannot be read ({reason})" in done.err


@pytest.mark.parametrize("model", ["test_resnet", "vit_tiny_patch16_224"])
def test_a_picture_that_memory_does_not_hold_is_told_in_plain_words(command, photos, model):
    """Not by what torch's allocator says of it."""
    done = command(
        "train", photos, *OFFLINE, "--model", model, "--img-size", "2000000", "--dry-run"
    )
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert "--img-size 2000000 takes more memory than there is" in done.err
    assert "llocat" not in done.err
