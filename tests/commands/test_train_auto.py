"""`imgcls train --model auto`: chosen once, shown, and kept in the run."""

from __future__ import annotations

import json

import pytest
import timm
import yaml
from safetensors.torch import save_file

OPTIONS = (
    "--img-size", "32", "--workers", "0", "--batch-size", "16", "--device", "cpu", "--tune", "head",
)  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with weights of two tiny models."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("test_byobnet", "test_efficientnet"):
        save_file(timm.create_model(name).state_dict(), folder / f"{name}.safetensors")
    return folder


def test_the_run_holds_the_chosen_model_and_what_it_was_chosen_by(
    command, photos, weights, tmp_path, monkeypatch
):
    """In its config, which chooses nothing again, in a file, on the screen and in the JSON."""
    done = command("train", photos, *OPTIONS, "--model", "auto", "--weights", weights, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    choice = found["model_choice"]
    assert found["model_name"] == choice["chosen"]
    assert {one["name"] for one in choice["candidates"]} == {"test_byobnet", "test_efficientnet"}
    assert all(one["balanced_accuracy"]["error"] > 0 for one in choice["candidates"])
    [run] = (tmp_path / "outputs").iterdir()
    assert choice["chosen"] in run.name
    assert json.loads((run / "model_choice.json").read_text()) == choice
    model = yaml.safe_load((run / "config.yaml").read_text())["model"]
    assert model["name"] == choice["chosen"]
    assert model["weights"] == str(weights / f"{choice['chosen']}.safetensors")
    assert (model["candidates"], model["max_params"], model["pretrained"]) == (None, None, False)
    assert "Choosing among 2 models" in done.err
    assert f"Chosen: {choice['chosen']}, {choice['reason']}" in done.err
    shown = command("runs", "show", run)
    assert f"Chosen: {choice['chosen']}, {choice['reason']}" in shown.out
    assert json.loads(command("runs", "show", run, "--json").out)["model_choice"] == choice

    def never(*_arguments):
        raise AssertionError

    monkeypatch.setattr("imgcls.jobs.train.start.choose_model", never)
    again = command("train", "--config", run / "config.yaml", "--experiment", "again", "--json")
    assert again.code == 0, again.err
    repeated = json.loads(again.out)
    assert repeated["model_choice"] is None
    assert repeated["folds"][0]["best_metrics"]["val_loss"] == pytest.approx(
        found["folds"][0]["best_metrics"]["val_loss"]
    )


def test_folds_are_told_that_their_val_took_part(command, photos, weights):
    """With all of them each picture is one fold's val; a single one keeps its own out."""
    auto = ("--model", "auto", "--weights", weights, "--folds", "2", "--dry-run")
    done = command("train", photos, *OPTIONS, *auto)
    assert done.code == 0, done.err
    assert "note: the model was chosen by pictures that are the val of one fold each" in done.err
    done = command("train", photos, *OPTIONS, *auto, "--fold", "0")
    assert "val of one fold each" not in done.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--models", "a,b"), "--models is for choosing a model, and --model resnet18 is chosen"),
        (("--max-latency-ms", "5"), "--max-latency-ms is for choosing a model"),
        (("--model", "auto", "--models", "a,a"), "--models: a is named twice"),
        (("--model", "auto", "--models", "resnet18,resnet99"), "timm has no such model"),
        (("--model", "auto", "--weights", "one.safetensors"), "is of one model, and --model auto"),
        (("--model", "auto", "--weights", "empty"), "has no weights that are named as a model"),
        (("--model", "auto", "--no-pretrained"), "none of its models can be taken"),
    ],
)
def test_what_cannot_choose_is_refused(command, photos, tmp_path, monkeypatch, options, words):
    """In one line, with exit code 2, nothing left, and before pictures are read where it can be."""
    if "none of" not in words:
        monkeypatch.setattr("imgcls.jobs.plan.plan.new_data", None)
    (tmp_path / "one.safetensors").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    done = command("train", photos, *OPTIONS, *options)
    assert done.code == 2
    assert words in done.error_lines[0]
    assert not (tmp_path / "outputs").exists()


def test_a_search_takes_one_model(command, photos, weights):
    """It compares settings; the models are compared before it."""
    pytest.importorskip("optuna")
    done = command("tune", photos, *OPTIONS[:-2], "--model", "auto", "--weights", weights)
    assert done.code == 2
    assert "auto is for `imgcls train`" in done.error_lines[0]


def test_weights_that_cannot_be_had_are_told_of(command, photos, tmp_path, weights, monkeypatch):
    """Neither in the folder nor in the cache, the hub out of reach; the others are compared."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    models = "test_byobnet,test_efficientnet,test_resnet"
    done = command(
        "train", photos, *OPTIONS, "--model", "auto", "--weights", weights, "--models", models,
        "--dry-run",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "Left out: test_resnet: its weights are not on this machine" in done.err
