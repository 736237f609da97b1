"""Bad input gets one line and an exit code, never a traceback."""

from __future__ import annotations

import shutil
import sys

import pytest
from conftest import OFFLINE


def assert_one_line(done, code, *words):
    assert done.code == code, done.err
    assert len(done.error_lines) == 1, done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.error_lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "/no/such/folder"), ["/no/such/folder", "no such folder"]),
        (("train", "--model", "resnet19"), ["resnet19", "resnet18"]),
        (("train", "--lr", "0"), ["--lr", "0", "> 0"]),
        (("train", "--lr=-1"), ["--lr", "-1"]),
        (("train", "--folds", "5", "--fold", "7"), ["7 is out of range", "0 to 4"]),
        (("train", "--folds", "9999"), ["--folds 9999", "class 0 (151)"]),
        (("train", "--set", "optim.lrr=1"), ["optim.lrr", "did you mean optim.lr?"]),
        (("train", "--config", "none.yaml"), ["none.yaml", "no such file"]),
        (("train", "--lrr", "1"), ["--lrr", "train --help"]),
        (("evaluate", "--channels-last", "auto"), ["takes no value", "or leave it out"]),
        (("benchmark", "-b", "auto,1"), ["'auto' is not allowed; expected a whole number"]),
        (("train", "--device", "cuda:77"), ["cuda:77", "available: "]),
        (("train", "--weights", "none.pth", *OFFLINE[:2]), ["none.pth", "no such file"]),
        (("train", "--weights", "w.pth", "--pretrained"), ["give one of them"]),
        (("train", "--opt", "adamv", *OFFLINE), ["adamv", "near: "]),
        (("train", "--aa", "wild", *OFFLINE), ["'wild'"]),
        (("trian",), ["trian", "train"]),
        (("evaluate",), ["no trained run", "imgcls train"]),
        (("evaluate", "/no/such"), ["/no/such"]),
        (("evaluate", "--split", "all"), ["--split", "'all'", "train, val or test"]),
        (("evaluate", "--open", "--no-report"), ["--open", "no page to show"]),
        (("report",), ["no trained run"]),
        (("report", "--split", "../x"), ["--split", "../x"]),
        (("resume", "/no/such"), ["/no/such", "no such folder"]),
        (("resume", "."), ["not a run"]),
        (("benchmark", "nope_model"), ["nope_model"]),
        (("benchmark", "--device", "mps"), ["mps", "not available", "cpu"]),
        (("benchmark", "--batch-size", "0"), ["--batch-size", ">= 1"]),
        (("list-models", "--limit", "0"), ["--limit"]),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_2(command, arguments, words, tmp_path):
    """What is wrong, the value, what to do; nothing was started."""
    assert_one_line(command(*arguments), 2, *words)
    assert not (tmp_path / "outputs").exists()


def test_bad_folders_are_refused_before_anything_starts(command, photos, tmp_path):
    """Empty, one class; and no run folder is left behind."""
    (tmp_path / "empty").mkdir()
    assert_one_line(command("train", "empty", *OFFLINE), 2, "empty: no pictures found")
    for name in ("china", "violet"):
        shutil.rmtree(photos / name)
    assert_one_line(command("train", photos, *OFFLINE), 2, "only one class, 'flower'")
    assert not (tmp_path / "outputs").exists()


def test_an_unreadable_picture_stops_with_its_name(command, photos):
    """Exit 1, because training had begun."""
    for file in (photos / "china").iterdir():
        file.write_bytes(file.read_bytes()[:300])
    done = command("train", photos, *OFFLINE, "--device", "cpu", "--no-preflight")
    assert_one_line(done, 1, str(photos / "china"), "cannot be read", "--on-bad-image skip")


def test_a_broken_checkpoint_is_named(command, photos, tmp_path):
    """Incomplete, truncated, mixed."""
    command("train", photos, *OFFLINE, "--epochs", "1", "--device", "cpu")
    [run] = (tmp_path / "outputs").iterdir()
    best = (run / "fold_0" / "checkpoints" / "best").resolve()
    weights = best / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    assert_one_line(command("evaluate"), 2, "model.safetensors", "bytes instead of")
    weights.unlink()
    assert_one_line(command("evaluate"), 2, "model.safetensors is missing")
    (best / "checkpoint.json").unlink()
    assert_one_line(command("evaluate", best), 2, "no checkpoint.json")


def test_data_that_changed_are_told(command, photos, tmp_path):
    """A picture that has gone since the run began."""
    command("train", photos, *OFFLINE, "--epochs", "1", "--device", "cpu")
    (photos / "china" / "000.jpg").unlink()
    assert_one_line(command("evaluate"), 2, "1 pictures are gone", "china/000.jpg")


def test_a_command_that_ctrl_c_stops_says_so(command, monkeypatch):
    """One line and exit 130; what the command-line library makes of it says nothing."""
    from imgcls.jobs.export import places

    def stop(_config):
        raise KeyboardInterrupt

    monkeypatch.setattr(places, "find_places", stop)
    done = command("export")
    assert (done.code, done.out, done.err) == (130, "", "imgcls: stopped by SIGINT\n")


def test_debug_shows_the_traceback(command):
    """For whoever wants to know more."""
    done = command("train", "/no/such", "--debug")
    assert "Traceback" in done.err
    assert done.code == 2


def test_no_arguments_show_the_help(command):
    """Like --help, and no error."""
    assert "Commands" in command().out


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot be removed there")
def test_a_current_folder_that_is_gone_is_one_line(command, tmp_path, monkeypatch):
    """Every path starts from it."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    done = command("inspect", "digits")
    assert (done.code, len(done.error_lines)) == (2, 1)
    assert "folder is gone" in done.error_lines[0]
