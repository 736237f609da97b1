"""The commands as calls: quiet, with results as objects."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import threading

import numpy as np
import pytest
import torch
from conftest import tiny_config

import imgcls
from imgcls.errors import CheckpointError, ThresholdError

TINY = {
    "model": "test_resnet", "pretrained": False, "img_size": 32, "batch_size": 16, "workers": 0,
    "epochs": 1, "lr": 1e-3, "device": "cpu", "preflight": False,
}  # fmt: skip


def test_keywords_train_what_a_config_does(photos, tmp_path, capfd):
    """The same run, bit for bit, and nothing is printed."""
    seen = []
    by_name = imgcls.train(photos, [seen.append], output=tmp_path / "a", **TINY)
    config = tiny_config(
        photos, optim={"epochs": 1}, data={"preflight": False}, runtime={"output": tmp_path / "b"}
    )
    by_config = imgcls.train(config=config)
    weights = [run.folds[0].best_checkpoint / "model.safetensors" for run in (by_name, by_config)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert seen
    assert imgcls.resume(by_name.run, epochs=2).folds[0].epochs_run == 2
    assert imgcls.resume(output=tmp_path / "a") is None
    assert capfd.readouterr() == ("", "")


def test_progress_can_be_asked_for(photos, tmp_path, capfd):
    """A table of epochs on stderr, which a pipe has as lines."""
    imgcls.train(photos, output=tmp_path, progress=True, **TINY)
    out, err = capfd.readouterr()
    assert out == ""
    assert "1/1" in err


@pytest.fixture
def run(trained, tmp_path):
    """A run to write into."""
    return shutil.copytree(trained / "outputs" / "single", tmp_path / "single")


def test_evaluate_predict_and_benchmark_give_what_json_has(trained, run, command, capsys):
    """For the same options, number for number."""
    photos = trained / "photos"
    capsys.readouterr()
    report = imgcls.evaluate(run, split="val", ci="none", report=False, device="cpu", workers=0)
    ours = imgcls.predict(photos, checkpoint=run, device="cpu", workers=0, top_k=2)
    assert capsys.readouterr() == ("", "")
    done = command("evaluate", run, "--split", "val", "--ci", "none", "--no-report", "--json")
    assert json.loads(done.out)["metrics"] == report.to_json()["metrics"]
    done = command("predict", photos, "--checkpoint", run, "--top-k", "2", "--device", "cpu")
    theirs = list(csv.DictReader(io.StringIO(done.out)))
    assert [row.path for row in ours.rows] == [row["path"] for row in theirs]
    assert [str(row.probabilities[1]) for row in ours.rows] == [r["probability_2"] for r in theirs]
    timed = imgcls.benchmark(run, num_samples=2, device="cpu", csv=run.parent / "timed.csv")
    assert timed.results[0].images_per_sec > 0
    assert (run.parent / "timed.csv").is_file()
    assert imgcls.report(run, split="val").page.is_file()


def _state_of_the_process():
    return (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_rng_state().tolist(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


def test_training_leaves_the_process_as_it_was(photos, tmp_path, monkeypatch):
    """Else a script would draw the same "random" numbers behind each training."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    random.seed(1)
    before = _state_of_the_process()
    run = imgcls.train(photos, output=tmp_path, deterministic=True, **TINY).run
    assert _state_of_the_process() == before
    imgcls.resume(run, epochs=2)
    assert _state_of_the_process() == before


def test_trainings_of_several_threads_are_those_of_one(photos, tmp_path):
    """One at a time, since all draw from the process's random states."""
    found = []

    def train(name):
        run = imgcls.train(photos, output=tmp_path / name, **TINY)
        found.append((run.folds[0].best_checkpoint / "model.safetensors").read_bytes())

    train("alone")
    threads = [threading.Thread(target=train, args=(str(n),)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1


def test_errors_name_keywords_and_leave_commands_as_they_are_typed(trained):
    """Also those that are found behind the check of the options."""
    with pytest.raises(
        CheckpointError, match=r"2 folds; ensemble averages them, checkpoint .* takes"
    ):
        imgcls.load(trained / "outputs" / "folds")
    with pytest.raises(CheckpointError, match=r"or a start by `imgcls train --weights`"):
        imgcls.load(trained / "outputs" / "single" / "config.yaml")


def test_a_metric_below_its_threshold_raises(run):
    """As the command exits with 1."""
    with pytest.raises(ThresholdError, match="accuracy is 0"):
        imgcls.evaluate(
            run, split="val", ci="none", report=False,
            fail_under={"accuracy": 1.0}, device="cpu", workers=0,
        )  # fmt: skip


def test_inspect_and_the_lists_give_objects(photos, trained, capfd):
    """Findings and entries."""
    capfd.readouterr()
    names = {row.name for row in imgcls.list_runs(trained / "outputs", sort="name").runs}
    assert names == {"single", "folds"}
    assert imgcls.inspect(photos, workers=1).pictures == 48
    assert {model.name for model in imgcls.list_models("resnet1*")} >= {"resnet18", "resnet10t"}
    assert imgcls.list_models("nonsense") == []
    assert capfd.readouterr() == ("", "")
