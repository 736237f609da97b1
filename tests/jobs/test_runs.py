"""Run folders: begun whole, found by the time they began, resumed where nobody is at work."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from conftest import OFFLINE, tiny_config

import imgcls
from imgcls.config.run import ResumeConfig
from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.errors import ConfigError, RunError
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.train.epochs import Resumable, find_resumable
from imgcls.jobs.train.resume import reopen_run
from imgcls.jobs.train.start import start_run
from imgcls.jobs.train.trainer import train_run
from imgcls.storage.lock import lock_run
from imgcls.storage.pointers import find_checkpoint
from imgcls.storage.runs import how_far, is_finished, runs_newest_first


@pytest.fixture
def begin(photos, tmp_path, monkeypatch):
    """A function that begins a run, untrained."""
    monkeypatch.chdir(tmp_path)

    def start(name, **groups):
        config = tiny_config(photos, runtime={"experiment": name}, **groups)
        return start_run(make_plan(config))

    return start


def train(photos, name, **groups):
    plan = make_plan(tiny_config(photos, runtime={"experiment": name}, **groups))
    return train_run(plan, start_run(plan)).run


def test_a_run_begins_whole_or_not_at_all(begin, tmp_path, monkeypatch):
    """Whatever of its files cannot be written; a name that is taken gets a number."""
    for failing in ("splits.csv", "config.yaml", "run.json"):
        with monkeypatch.context() as patch:
            replace = os.replace

            def fail(source, target, failing=failing, replace=replace):
                if Path(target).name == failing:
                    raise OSError(28, "No space left on device")
                replace(source, target)

            patch.setattr(os, "replace", fail)
            with pytest.raises(RunError, match="the disk is full"):
                begin("r")
        assert list((tmp_path / "outputs").iterdir()) == []
    (tmp_path / "outputs" / "r").mkdir()
    runs = [begin("r"), begin("r")]
    assert [run.name for run in runs] == ["r-2", "r-3"]
    names = {"run.json", "splits.csv", "config.yaml", "preflight.json"}
    assert {p.name for p in runs[0].iterdir()} == names


def test_what_a_kill_left_of_a_beginning_is_no_run_and_goes_away(begin, tmp_path):
    """A folder that never got its name; after a day the next run removes it."""
    run = begin("r")
    leftovers = [run.with_name(f".tmp-run-{n}") for n in (1, 2)]
    for leftover in leftovers:
        shutil.copytree(run, leftover)
    os.utime(leftovers[0], (time.time() - 90_000,) * 2)
    assert runs_newest_first(run.parent) == [run]
    begin("s")
    assert [leftover.exists() for leftover in leftovers] == [False, True]


def test_a_half_begun_run_of_an_earlier_version_is_explained(begin):
    """It has splits and no config."""
    run = begin("r")
    (run / "config.yaml").unlink()
    with pytest.raises(RunError, match=r"no config\.yaml; it was stopped before it began, train"):
        find_resumable(run, run.parent, extend=False)


@pytest.mark.parametrize("version", ["now", "earlier", "damaged"])
def test_the_newest_run_is_the_one_begun_last(begin, version):
    """Not the one resumed last, which writes its config again."""
    runs = [begin(name) for name in ("b", "a")]
    for age, run in enumerate(runs[::-1]):
        if version != "now":
            os.utime(run / "splits.csv", (1_000_000 - age,) * 2)
            (run / "run.json").unlink()
        if version == "damaged":
            (run / "run.json").write_text('{"began": "yesterday"}')
    config = runs[0] / "config.yaml"
    config.write_text(config.read_text())
    assert runs_newest_first(runs[0].parent) == runs[::-1]


def test_resume_takes_the_newest_run_that_nobody_is_training(begin, command):
    """And says so where there is none; a named one is refused."""
    older, newer = begin("older"), begin("newer")
    assert find_resumable(None, older.parent, extend=False).run == newer
    with lock_run(newer):
        found = find_resumable(None, older.parent, extend=False)
        assert (found.run, found.busy) == (older, (newer,))
        with lock_run(older):
            done = command("resume")
    assert done.code == 0
    assert "being trained by another process: outputs/newer, outputs/older" in done.out


@pytest.mark.parametrize("damage", ["optim: {epochs: many}", "a: [", b"\xff\xfe\x00"])
def test_resume_says_which_run_it_passed_over_and_why(begin, command, damage):
    """The newest one's config cannot be read; an older one is taken, or there is none."""
    older, newer = begin("older"), begin("newer")
    config = newer / "config.yaml"
    config.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    found = find_resumable(None, older.parent, extend=False)
    assert found.run == older
    [why] = found.unreadable
    assert "outputs/newer" in why
    shutil.rmtree(older)
    done = command("resume")
    assert done.code == 0
    assert f"passed over a run that cannot be read: {why}" in done.err
    assert "no run is unfinished" in done.out


def test_resume_refuses_a_checkpoint_that_is_not_the_last(photos, tmp_path, command):
    """It would go on from another one than was named; the advice works as it is printed."""
    run = train(photos, "r", optim={"epochs": 2}, checkpoint={"keep": "all"})
    first, last = sorted((run / "fold_0" / "checkpoints").glob("step-*"))
    done = command("resume", first, "--epochs", "3")
    assert done.code == 2
    [line] = done.error_lines
    assert f"goes on from the last checkpoint, {last.name}, not from an earlier one" in line
    advice = line[line.index("`imgcls ") + 8 : -1].split()
    assert command(*advice, "--dry-run", "--model", "test_resnet", "--img-size", "32").code == 0
    for path in (last, last.parent / "last", last.parent.parent):
        assert find_resumable(path, run.parent, extend=True).run.resolve() == run.resolve()
    shutil.rmtree(first)
    with pytest.raises(RunError, match="no such folder"):
        find_resumable(run / "none", run.parent, extend=True)


def test_several_folds_are_finished_when_they_are_summed_up(photos, tmp_path, command, monkeypatch):
    """A kill before summary.json: resume makes it; more epochs make it anew."""
    monkeypatch.chdir(tmp_path)
    run = train(photos, "r", data={"folds": 2, "fold": "all"}, optim={"epochs": 1})
    summary = (run / "summary.json").read_bytes()
    assert is_finished(run)
    (run / "summary.json").unlink()
    assert not is_finished(run)
    assert command("resume").code == 0
    assert json.loads((run / "summary.json").read_bytes())["mean"] == json.loads(summary)["mean"]
    assert is_finished(run)

    def killed(*_arguments):
        assert not (run / "summary.json").exists(), "the old one says nothing of these weights"
        raise KeyboardInterrupt

    monkeypatch.setattr("imgcls.jobs.train.trainer.summarize", killed)
    assert command("resume", "--epochs", "2").code == 130
    assert not is_finished(run)


def test_links_that_a_kill_at_the_very_end_left_unset_are_set(photos, tmp_path, command):
    """The run is finished all the same, and evaluated as it is."""
    run = train(photos, "r", optim={"epochs": 1})
    checkpoints = run / "fold_0" / "checkpoints"
    for name in ("best", "last"):
        (checkpoints / name).unlink()
    assert read_checkpoint(find_checkpoint(run)).sidecar.epoch == 1
    assert "Nothing to resume: no run is unfinished" in command("resume").out
    assert (checkpoints / "best").resolve() == (checkpoints / "last").resolve()


def test_an_unfinished_run_is_evaluated_with_a_note(photos, command, monkeypatch):
    """On the screen and in the JSON: how far it has come."""
    monkeypatch.setattr("imgcls.engine.training.fit.train_step", _stopping(after=5))
    folder = ("--output", "outputs", "--experiment", "r", "--epochs", "3", "--batch-size", "16")
    tiny = ("--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--workers", "0")
    assert command("train", photos, *tiny, *folder).code == 130
    note = "run outputs/r is unfinished: epoch 1 of 3; its best so far is evaluated"
    done = command("evaluate", "--ci", "none", "--no-report", "--workers", "0", "--json")
    assert done.code == 0
    assert note in json.loads(done.out)["notes"]
    checkpoint = find_checkpoint(Path("outputs/r"))
    assert how_far(Path("outputs/r/fold_0")) == note[: note.index(";")]
    assert how_far(checkpoint) is None


def test_a_copy_that_lost_half_of_its_newest_checkpoint_says_so(photos):
    """What is evaluated then may not be the best: a cloud's copy without links, half synced."""
    run = train(photos, "r", optim={"epochs": 2}, checkpoint={"keep": "all"})
    checkpoints = run / "fold_0" / "checkpoints"
    for name in ("best", "last"):
        (checkpoints / name).unlink()
    assert how_far(run) is None
    newest = max(checkpoints.glob("step-*"))
    (newest / "checkpoint.json").unlink()
    assert how_far(run) == (
        f"run {run} is unfinished: epoch 1 of 2 (a newer checkpoint, {newest.name}, is incomplete)"
    )


def test_a_checkpoint_that_was_copied_out_of_its_run_says_how_to_go_on(photos, command):
    """It holds a state, but neither the run's options nor its splits."""
    run = train(photos, "r", optim={"epochs": 1})
    shutil.copytree(run / "fold_0" / "checkpoints" / "best", "mine")
    shutil.copytree(run / "fold_0", "fold")
    for name in ("mine", "fold"):
        done = command("resume", name)
        assert done.code == 2
        weights = re.search(r"starts from it with `imgcls train DATA --weights (\S+)`", done.err)[1]
        assert (Path(weights) / "model.safetensors").is_file()
    dry = ("train", photos, "--weights", weights, "--model", "test_resnet", "--dry-run")
    assert command(*dry, "--img-size", "32").code == 0


def _stopping(after):
    from imgcls.engine.training import step

    real, calls = step.train_step, []

    def train_step(*arguments):
        calls.append(1)
        if len(calls) == after:
            raise KeyboardInterrupt
        return real(*arguments)

    return train_step


def _copied(run, form):
    """What a copy may make of the links of a run."""
    folder = run.with_name(form.replace(" ", "-"))
    if form == "followed":
        shutil.copytree(run, folder)
        return folder
    shutil.copytree(run, folder, symlinks=True)
    for link in folder.glob("fold_*/checkpoints/*"):
        if link.is_symlink():
            target = str(link.readlink())
            link.unlink()
            if form == "text":
                link.write_text(target)
    return folder


@pytest.mark.parametrize("form", ["followed", "text", "left out"])
def test_a_copied_run_is_evaluated_timed_reported_and_resumed(photos, command, form):
    """Links followed (scp -r, zip), kept as text (git on Windows) or left out (many clouds)."""
    run = _copied(train(photos, "r", optim={"epochs": 2}, checkpoint={"keep": "all"}), form)
    quick = ("--ci", "none", "--no-report", "--workers", "0", "--json")
    found = json.loads(command("evaluate", run, *quick).out)
    assert found["metrics"] == json.loads(command("evaluate", "outputs/r", *quick).out)["metrics"]
    assert command("report", run).code == 0
    timed = ("--num-samples", "4", "--device", "cpu", "--batch-size", "1", "--json")
    assert command("benchmark", run, *timed).code == 0
    assert "is finished" in command("resume", run).out
    assert command("resume", run, "--epochs", "3").code == 0
    checkpoints = run / "fold_0" / "checkpoints"
    assert (checkpoints / "best").is_symlink()
    assert read_checkpoint((checkpoints / "last").resolve()).sidecar.epoch == 3


def test_a_config_further_up_is_no_run(begin):
    """A folder of the user's own beside it names itself."""
    run = begin("r")
    Path("config.yaml").write_text((run / "config.yaml").read_text())
    for inner in ("a", "a/b/c/d"):
        Path("outputs", inner).mkdir(parents=True)
    with pytest.raises(RunError, match=r"outputs/a/b/c/d: not a run, it has no config\.yaml"):
        find_resumable(Path("outputs/a/b/c/d"), run.parent, extend=False)
    fold = run / "fold_0" / "checkpoints" / "step-00000001"
    fold.mkdir(parents=True)
    assert find_resumable(fold.parent, run.parent, extend=False).run == run.absolute()


def test_a_run_that_another_process_finished_meanwhile_is_as_it_was(
    photos, tmp_path, command, monkeypatch
):
    """Between the look at the folder and the training lie the seconds in which torch loads."""
    monkeypatch.chdir(tmp_path)
    run = train(photos, "r", optim={"epochs": 1})
    before = (run / "fold_0" / "history.csv").read_bytes()
    monkeypatch.setattr("imgcls.jobs.train.epochs.find_trainable", lambda *_request: Resumable(run))
    done = command("resume")
    assert (done.code, "1 of 1" in done.out) == (0, True), done.err
    assert (run / "fold_0" / "history.csv").read_bytes() == before


def test_fewer_epochs_than_trained_are_decided_once_for_all_folds(
    photos, tmp_path, command, monkeypatch
):
    """All have more: nothing to do. Some have: refused, before torch loads. From Python alike."""
    monkeypatch.chdir(tmp_path)
    run = train(photos, "r", data={"folds": 2, "fold": "all"}, optim={"epochs": 3})
    config = (run / "config.yaml").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr("imgcls.engine.device.runtime.keep_freed_memory", pytest.fail)
        for named in ((), (run,)):
            done = command("resume", *named, "--epochs", "2")
            assert (done.code, done.err) == (0, "")
            assert "r has more epochs trained than --epochs 2." in done.out
        assert imgcls.resume(ResumeConfig(run=run, epochs=2)) is None
        with pytest.raises(ConfigError, match="has more epochs trained already"):
            reopen_run(run, ResumeConfig(epochs=2))
        shutil.rmtree(run / "fold_1")
        done = command("resume", "--epochs", "2")
        [line] = done.error_lines
        assert (done.code, "--epochs 2: 3 are trained already of fold 0" in line) == (2, True)
        with pytest.raises(ConfigError, match="3 are trained already of fold 0"):
            imgcls.resume(ResumeConfig(run=run, epochs=2))
    assert (run / "config.yaml").read_bytes() == config


@pytest.mark.parametrize("name", [".", "..", "..."])
def test_a_run_is_not_named_by_dots_alone(command, name):
    """They are the folder itself and the one above it."""
    done = command("train", "digits", *OFFLINE, "--name", name, "--dry-run")
    assert (done.code, len(done.error_lines)) == (2, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="names there are always UTF-8")
def test_an_output_folder_that_is_not_utf8_is_refused_before_training(command, tmp_path):
    """The weights could be written there, and not be read again."""
    output = os.fsdecode(b"out\xff")
    done = command("train", "digits", *OFFLINE, "--epochs", "1", "--output", output)
    assert (done.code, len(done.error_lines)) == (2, 1)
    assert "not UTF-8" in done.error_lines[0]
    assert list(tmp_path.iterdir()) == []
