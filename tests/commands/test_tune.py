"""The search for better settings: what it finds, and that nothing it did is lost or done twice."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import yaml
from conftest import TINY, tiny_config
from killing import differences, remains, wait_for

from imgcls.config.load import validate
from imgcls.config.tune import TuneConfig
from imgcls.engine.training.events import EpochDone, FeaturesDone, StepDone
from imgcls.errors import InterruptedRunError, OutputError, RunError, RunFailedError
from imgcls.jobs.train.train import train
from imgcls.jobs.tune import trial
from imgcls.jobs.tune.tune import open_search, run_search
from imgcls.output.console import Console
from imgcls.output.screens.tuning import TuningView

# the learning rate that the search starts from learns nothing in two epochs
PLANTED = {"optim.lr": {"low": 1e-6, "high": 3e-2, "log": True}}


class Watcher(TuningView):
    """Sees a search, and does something at an event of its choice."""

    def __init__(self, act=lambda _event, _number: None):
        super().__init__(Console(quiet=True), "val_balanced_accuracy", 0)
        self.begun = []
        self._act = act

    def begin(self, number, begun):
        self.begun.append(number)

    def __call__(self, event):
        super().__call__(event)
        self._act(event, self.begun[-1])


def tune_config(source, output, *, search, **groups):
    tree = {name: dict(values) for name, values in TINY.items()}
    tree["data"]["source"] = str(source)
    tree["search"] = {"space": PLANTED, **search}
    tree["optim"]["lr"] = 1e-6
    tree["early_stopping"] = {}
    for name, values in {"runtime": {"output": str(output), "experiment": "s"}, **groups}.items():
        tree.setdefault(name, {}).update(values)
    return validate(TuneConfig, tree)


def search_for(config, watcher=None):
    search, *_ = open_search(config)
    return run_search(search, watcher or Watcher())


@pytest.fixture
def search_file(tmp_path, photos):
    """A file for `imgcls tune --config`, with the planted case."""
    config = tune_config(
        photos,
        tmp_path / "outputs",
        search={"trials": 6},
        optim={"epochs": 8},
        data={"batch_size": 6},
        early_stopping={"metric": "val_loss"},
    )
    file = tmp_path / "search.yaml"
    tree = config.model_dump(mode="json")
    del tree["runtime"]["experiment"]
    file.write_text(yaml.safe_dump(tree))
    return file


def test_it_finds_better_settings_and_trains_them_again(command, search_file, tmp_path):
    """The planted case through the command; best.yaml repeats the best trial bit for bit."""
    done = command("tune", "--config", search_file)
    assert done.code == 0, done.err
    # of one trial, before the first
    assert re.search(r"^Memory +about .* MiB", done.out + done.err, re.MULTILINE)
    assert re.search(r"^Time +about \d+ s", done.out + done.err, re.MULTILINE)
    study = tmp_path / "outputs" / "tune-photos-test_resnet"
    with (study / "trials.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["number"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    start, best = float(rows[0]["value"]), min(float(row["value"]) for row in rows)
    assert rows[0]["is_start"] == "True"
    assert float(rows[0]["optim.lr"]) == 1e-6
    assert best < 0.85 * start
    number = next(int(row["number"]) for row in rows if float(row["value"]) == best)
    assert f"Best: trial {number}, val loss {best:.4f}" in done.out
    assert f"the settings as they are: {start:.4f}" in done.out
    assert f"imgcls evaluate {study}/trial-{number:04d} --split test" in done.out
    assert "from 6 trials, a rough guess" in done.out
    best_trial = study / f"trial-{number:04d}"
    assert command("evaluate", best_trial, "--split", "test", "--no-report").code == 0
    assert command("train", "--config", study / "best.yaml").code == 0
    [again] = [p for p in (tmp_path / "outputs").iterdir() if p != study]
    assert differences(remains(best_trial), remains(again)) == []


def test_the_fitted_classifier_is_no_epoch_of_a_trial(command, search_file):
    """It is validated as epoch 0; a trial of two epochs has two."""
    fitted = ("--tune", "head+full", "--feature-views", "1", "--epochs", "2", "--patience", "0")
    done = command("tune", "--config", search_file, *fitted, "--trials", "1", "--no-prune")
    assert done.code == 0, done.err
    assert re.search(r"trial   0 .* 2 epochs", done.err), done.err


def test_the_same_command_again_does_nothing_twice_and_more_trials_go_on(command, search_file):
    """A finished search only shows its table."""
    options = ("tune", "--config", search_file, "--epochs", "1", "--json")
    first = command(*options, "--trials", "2")
    again = command(*options, "--trials", "2")
    assert first.out == again.out
    assert "trial   0" not in again.err
    more = json.loads(command(*options, "--trials", "3").out)
    assert more["trials"][:2] == json.loads(first.out)["trials"]
    assert len(more["trials"]) == 3
    files = {p: p.read_bytes() for p in search_file.parent.glob("outputs/*/*.*")}
    other = command("tune", "--config", search_file, "--epochs", "2")
    assert other.code == 2
    assert {p: p.read_bytes() for p in files} == files
    [line] = other.error_lines
    assert "the study tune-photos-test_resnet was begun with optim.epochs = 1, not 2" in line


def test_ctrl_c_saves_the_trial_and_the_search_goes_on_inside_it(tmp_path, photos):
    """The interrupted trial ends as if it had never been stopped, in the folder it began in."""

    def interrupt(event, number):
        if number == 1 and isinstance(event, StepDone) and (event.epoch, event.step_in_epoch) == (
            2, 2,
        ):  # fmt: skip
            signal.raise_signal(signal.SIGINT)

    config = tune_config(photos, tmp_path / "a", search={"trials": 3})
    with pytest.raises(InterruptedRunError) as caught:
        search_for(config, Watcher(interrupt))
    assert caught.value.exit_code == 130
    assert "1 of 3 trials are done; go on with: imgcls tune --config " in str(caught.value)
    assert str(tmp_path / "a" / "s" / "tune.yaml") in str(caught.value)
    watcher = Watcher()
    result = search_for(config, watcher)
    assert [r.state for r in result.trials] == ["complete"] * 3
    assert watcher.begun[0] == 1
    straight = search_for(tune_config(photos, tmp_path / "b", search={"trials": 2}))
    assert result.trials[1].params == straight.trials[1].params
    one, other = (tmp_path / name / "s" / "trial-0001" for name in "ab")
    assert differences(remains(one), remains(other)) == []


def test_the_end_of_the_time_is_met_inside_a_trial(tmp_path, photos, monkeypatch):
    """It is saved and waits; the next sitting goes on with it. The budget is each sitting's own."""
    late, real = [], time.monotonic

    def clock():
        return real() + 1e6 * len(late)

    monkeypatch.setattr("imgcls.jobs.tune.trial.time.monotonic", clock)

    def time_flies(event, number):
        if number == 1 and isinstance(event, StepDone):
            late.append(event)

    config = tune_config(photos, tmp_path, search={"trials": 2, "max_minutes": 60})
    result = search_for(config, Watcher(time_flies))
    assert [r.state for r in result.trials] == ["complete", "waiting"]
    assert len(late) <= 2
    watcher = Watcher()
    result = search_for(config, watcher)
    assert [r.state for r in result.trials] == ["complete", "complete"]
    assert watcher.begun == [1]


def test_the_end_of_the_time_is_met_while_features_are_computed(tmp_path, photos, monkeypatch):
    """Behind the batch under way; the next sitting computes those that are missing."""
    real, batches = time.monotonic, []

    def clock():
        return real() + 1e6 * len(batches)

    monkeypatch.setattr("imgcls.jobs.tune.trial.time.monotonic", clock)

    def count(event, _number):
        if isinstance(event, FeaturesDone):
            batches.append(event.done)

    config = tune_config(
        photos,
        tmp_path,
        search={"trials": 1, "max_minutes": 60, "space": {"recipe.imbalance": ["none"]}},
        recipe={"tune": "head"},
        data={"batch_size": 8},
    )
    with pytest.raises(RunFailedError, match="the time was up"):
        search_for(config, Watcher(count))
    assert batches == [8]
    result = search_for(config)
    assert [r.state for r in result.trials] == ["complete"]


def test_a_trial_is_no_mean_over_some_of_its_folds(tmp_path, photos):
    """The mean over all of them; a fold without a value would be counted as 0."""
    config = tiny_config(
        photos,
        data={"folds": 2, "fold": "all"},
        optim={"epochs": 1},
        runtime={"output": str(tmp_path)},
    )
    result = train(config)
    one, two = (fold.best_metrics["val_loss"] for fold in result.folds)
    assert trial.mean_of_folds(result, "val_loss") == pytest.approx((one + two) / 2)
    lacking = replace(result.folds[1], best_metrics={"val_loss": None})
    with pytest.raises(AssertionError, match="fold_1: its best epoch has no val_loss"):
        trial.mean_of_folds(replace(result, folds=(result.folds[0], lacking)), "val_loss")


def test_no_trial_in_time_is_an_error_that_says_how_to_go_on(tmp_path, photos):
    """Exit code 1; the trial begun is there."""
    config = tune_config(photos, tmp_path, search={"trials": 2, "max_minutes": 1e-6})
    with pytest.raises(RunFailedError, match=r"the time was up, .* go on with: imgcls tune"):
        search_for(config)


class _PruneAllButTheFirst(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return trial.number > 0


def test_a_pruned_trial_is_a_run_that_can_be_finished(tmp_path, photos, monkeypatch, command):
    """It is saved where it was stopped, one step into the next epoch."""
    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda **_: _PruneAllButTheFirst())
    config = tune_config(photos, tmp_path, search={"trials": 2}, optim={"epochs": 3})
    epochs = []

    def count(event, number):
        if number == 1 and isinstance(event, EpochDone):
            epochs.append(event.epoch)

    result = search_for(config, Watcher(count))
    assert [r.state for r in result.trials] == ["complete", "pruned"]
    assert (epochs, result.trials[1].epochs) == ([1], 1)
    assert result.best.number == 0
    run = tmp_path / "s" / "trial-0001"
    assert command("resume", run).code == 0
    assert len(remains(run)["history"]) == 3


def test_no_prune_trains_each_to_its_end(tmp_path, photos, monkeypatch):
    """Whatever the pruner would say."""
    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda **_: _PruneAllButTheFirst())
    config = tune_config(photos, tmp_path, search={"trials": 2, "prune": False})
    assert [r.state for r in search_for(config).trials] == ["complete", "complete"]


def test_a_trial_that_cannot_be_trained_is_one_that_failed(tmp_path, photos):
    """Its reason stands in the table, and the others are done."""
    config = tune_config(
        photos, tmp_path, search={"trials": 3, "space": {"optim.lr": [1e-6, 1e30, 1e-3]}}
    )
    result = search_for(config)
    assert sorted(r.state for r in result.trials) == ["complete", "complete", "failed"]
    [failed] = [r for r in result.trials if r.state == "failed"]
    assert failed.params == {"optim.lr": 1e30}
    assert "the loss became" in failed.error


def test_a_finite_space_ends_when_all_was_tried(tmp_path, photos):
    """Fewer trials than asked for; none twice."""
    space = {"optim.lr": [1e-6, 1e-3], "augment.smoothing": [0.0, 0.1]}
    config = tune_config(
        photos, tmp_path, search={"trials": 10, "space": space}, optim={"epochs": 1}
    )
    tried = [tuple(sorted(r.params.items())) for r in search_for(config).trials]
    assert len(tried) == len(set(tried)) == 4


def test_with_folds_the_mean_over_them_is_compared(tmp_path, photos):
    """Each trial trains all folds."""
    config = tune_config(
        photos, tmp_path, search={"trials": 1}, data={"folds": 2}, optim={"epochs": 1}
    )
    [trial] = search_for(config).trials
    summary = json.loads((tmp_path / "s" / "trial-0000" / "summary.json").read_text())
    assert trial.value == pytest.approx(summary["mean"]["balanced_accuracy"])
    assert trial.epochs == 2


def test_other_pictures_are_another_search(tmp_path, photos):
    """Trials on different pictures cannot be compared."""
    config = tune_config(photos, tmp_path, search={"trials": 1}, optim={"epochs": 1})
    search_for(config)
    (photos / "china" / "000.jpg").unlink()
    with pytest.raises(RunError, match="was begun with other pictures"):
        search_for(config)


def test_machines_share_a_study_by_its_storage(tmp_path, photos):
    """Each keeps its own runs; a trial cut short elsewhere is begun anew where its run is not."""

    def interrupt(event, number):
        if number == 1 and isinstance(event, StepDone):
            signal.raise_signal(signal.SIGINT)

    shared = {"trials": 3, "storage": f"sqlite:///{tmp_path}/shared.db"}
    with pytest.raises(InterruptedRunError):
        search_for(tune_config(photos, tmp_path / "here", search=shared), Watcher(interrupt))
    watcher = Watcher()
    result = search_for(tune_config(photos, tmp_path / "there", search=shared), watcher)
    assert [r.state for r in result.trials] == ["complete"] * 3
    assert watcher.begun[0] == 1
    assert {p.name for p in (tmp_path / "here" / "s").glob("trial-*")} == {
        "trial-0000", "trial-0001",
    }  # fmt: skip
    assert "trial-0000" not in {p.name for p in (tmp_path / "there" / "s").glob("trial-*")}
    assert remains(tmp_path / "there" / "s" / "trial-0001")["best"]["step"]
    assert not (tmp_path / "here" / "s" / "study.db").exists()


def test_a_run_is_not_a_search(command, photos, search_file):
    """Its folder is left alone."""
    command("train", photos, "--config", _train_part(search_file), "--experiment", "mine")
    done = command("tune", "--config", search_file, "--experiment", "mine")
    assert done.code == 2
    assert "mine: a run, not a search" in done.error_lines[0]


@pytest.mark.parametrize("name", ["trials.csv", "best.yaml", "splits.csv", "tune.yaml"])
def test_a_folder_of_something_else_is_not_a_search(command, search_file, name):
    """What is in it stays as it is, be it a file of the user's or no file at all."""
    folder = search_file.parent / "outputs" / "mine"
    folder.mkdir(parents=True)
    (folder / name).write_text("site,count\nnorth,3\n")
    done = command("tune", "--config", search_file, "--experiment", "mine")
    assert done.code == 2
    assert f"mine/{name}: exists, and " in done.error_lines[0]
    assert "another --experiment" in done.error_lines[0]
    assert [file.read_text() for file in folder.iterdir()] == ["site,count\nnorth,3\n"]
    (folder / name).unlink()
    (folder / name).symlink_to("elsewhere")
    done = command("tune", "--config", search_file, "--experiment", "mine")
    assert done.code == 2
    assert f"mine/{name}: is no ordinary file" in done.error_lines[0]
    assert [file.is_symlink() for file in folder.iterdir()] == [True]


def _train_part(search_file):
    tree = yaml.safe_load(search_file.read_text())
    del tree["search"]
    file = search_file.with_name("train.yaml")
    file.write_text(yaml.safe_dump(tree))
    return file


def test_a_storage_that_cannot_be_used_leaves_nothing_behind(command, search_file, monkeypatch):
    """Exit code 2, before any file."""
    monkeypatch.setattr("imgcls.jobs.tune.database._PAUSES_S", ())
    done = command("tune", "--config", search_file, "--storage", "sqlite:////no/such/folder/s.db")
    assert done.code == 2
    assert "--storage sqlite:////no/such/folder/s.db: cannot be used" in done.error_lines[0]
    assert not (search_file.parent / "outputs").exists()


def test_a_database_that_fails_on_the_way_is_one_line(tmp_path, photos, monkeypatch):
    """With what to type when it is back; the run of the trial under way goes on then."""
    config = tune_config(photos, tmp_path, search={"trials": 1})
    database = tmp_path / "s" / "study.db"

    def damage(event, _number):
        if isinstance(event, EpochDone) and event.epoch == 1:
            database.rename(tmp_path / "away.db")

    with pytest.raises(OutputError, match=r"any more: .*readonly.* go on with: imgcls tune"):
        search_for(config, Watcher(damage))
    (tmp_path / "away.db").replace(database)
    # the process that had the trial would have ended by now
    monkeypatch.setattr("imgcls.jobs.tune.study.is_alive", lambda _worker: False)
    assert [r.state for r in search_for(config).trials] == ["complete"]


@pytest.mark.parametrize("name", ["tune.yaml", "splits.csv", "trials.csv", "best.yaml"])
def test_a_full_disk_is_one_line(tmp_path, photos, monkeypatch, name):
    """Whichever file of the search is not written; with room again the search goes on."""
    config = tune_config(photos, tmp_path, search={"trials": 1}, optim={"epochs": 1})
    replace = os.replace

    def full(source, target):
        if Path(target) == tmp_path / "s" / name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OutputError, match="cannot be written: the disk is full; free some"):
            search_for(config)
    assert [r.state for r in search_for(config).trials] == ["complete"]


def test_without_optuna_there_is_one_line(command, monkeypatch):
    """With what to type."""
    monkeypatch.setattr("imgcls.cli.tune.find_spec", lambda _name: None)
    done = command("tune")
    assert (done.code, done.error_lines) == (
        2, ['imgcls: tune needs Optuna: pip install "imgcls[tune]"'],
    )  # fmt: skip


def start(search_file, *options):
    return subprocess.Popen(
        [sys.executable, "-m", "imgcls", "tune", "--config", str(search_file), *options],
        cwd=search_file.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_search_goes_on_and_repeats_no_trial(command, search_file, tmp_path):
    """SIGKILL inside the second trial of a real process; the study has each trial once."""
    process = start(search_file, "--trials", "4", "--epochs", "20")
    study = tmp_path / "outputs" / "tune-photos-test_resnet"
    wait_for(lambda: list(study.glob("trial-0001/fold_0/checkpoints/step-*")))
    process.kill()
    process.communicate()
    before = (study / "trial-0000" / "fold_0" / "history.csv").read_bytes()
    done = command("tune", "--config", study / "tune.yaml", "--json")
    assert done.code == 0, done.err
    trials = json.loads(done.out)["trials"]
    assert [t["state"] in ("complete", "pruned") for t in trials] == [True] * 4
    assert [t["number"] for t in trials[:2]] == [0, 1]
    assert len({t["params"]["optim.lr"] for t in trials}) == 4
    assert sorted(p.name for p in study.glob("trial-*")) == [
        "trial-0000", "trial-0001", *sorted(t["run"] for t in trials[2:]),
    ]  # fmt: skip
    assert (study / "trial-0000" / "fold_0" / "history.csv").read_bytes() == before


@pytest.mark.slow
def test_two_processes_share_a_study_and_repeat_no_trial(search_file, tmp_path):
    """Begun at the same moment on the same command: six trials in all, each in one process."""
    processes = [start(search_file, "--trials", "6") for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    study = tmp_path / "outputs" / "tune-photos-test_resnet"
    database = optuna.load_study(study_name=study.name, storage=f"sqlite:///{study}/study.db")
    trained = [t for t in database.trials if "given_back" not in t.user_attrs]
    assert len(trained) == 6
    assert all(t.state.is_finished() for t in trained)
    assert len({t.params["optim.lr"] for t in trained}) == 6
    assert len({t.user_attrs["worker"]["pid"] for t in trained}) == 2
    assert sorted(p.name for p in study.glob("trial-*")) == sorted(
        t.user_attrs["run"] for t in trained
    )


def test_no_file_of_a_search_holds_the_password(photos, tmp_path):
    """Neither its config nor the table; what to type to go on says that it is to be typed again."""
    url = f"sqlite:///file:{tmp_path}/s.db?uri=true&password=s3cret"
    config = tune_config(photos, tmp_path / "outputs", search={"trials": 1, "storage": url})
    search, *_ = open_search(config)
    result = run_search(search, Watcher())
    assert "--storage URL" in search.command
    for file in (tmp_path / "outputs").rglob("*"):
        assert file.is_dir() or b"s3cret" not in file.read_bytes(), file
    assert "s3cret" not in json.dumps(result.to_json(), default=str)
