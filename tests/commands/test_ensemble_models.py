"""`imgcls train --model auto --ensemble-models N`: several models, one split, and their average."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import timm
from conftest import save_crops
from safetensors.torch import save_file

from imgcls.cli.boundary import run as run_command
from imgcls.storage.ensembles import ensemble_of, is_whole, member_runs

NAMES = ("test_byobnet", "test_vit")
OPTIONS = (
    "--workers", "0", "--batch-size", "16", "--device", "cpu", "--tune", "head", "--img-size", "32",
    "--quiet",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, crops):
    """A folder with photos/, weights/ and outputs/both: two models of different preprocessing."""
    place = tmp_path_factory.mktemp("ensemble")
    save_crops(crops, place / "photos", (20, 18, 16))
    (place / "weights").mkdir()
    for name in NAMES:
        save_file(timm.create_model(name).state_dict(), place / "weights" / f"{name}.safetensors")
    code = run_command(
        ["train", str(place / "photos"), *OPTIONS, "--model", "auto", "--ensemble-models", "2",
         "--weights", str(place / "weights"), "--experiment", "both",
         "--output", str(place / "outputs")]
    )  # fmt: skip
    assert code == 0
    return place


@pytest.fixture
def both(place, tmp_path):
    """A copy of the ensemble, in an outputs folder of its own."""
    shutil.copytree(place / "outputs", tmp_path / "outputs", symlinks=True)
    return tmp_path / "outputs" / "both"


def probabilities(folder):
    """By picture, of a table of predictions."""
    with (folder / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    columns = [name for name in rows[0] if name.startswith("prob_")]
    return {row["path"]: np.array([float(row[name]) for name in columns]) for row in rows}


def test_the_average_is_that_of_the_models_each_on_its_own_pictures(command, both):
    """The mean of the calibrated probabilities, and what each model says alone is compared."""
    report = json.loads((both / "test_results" / "test" / "test_metrics.json").read_text())
    assert report["model_name"] == "test_byobnet + test_vit"
    assert report["ensemble"]["models"] == list(NAMES)
    assert set(report["ensemble"]["gain"]) >= {"accuracy", "nll"}
    alone = []
    for run in member_runs(both):
        assert command("evaluate", run, "--no-report", "--quiet").code == 0
        alone.append(probabilities(run / "fold_0" / "test_results" / "test"))
    together = probabilities(both / "test_results" / "test")
    assert len(together) > 5
    for path, found in together.items():
        assert found == pytest.approx(np.mean([one[path] for one in alone], axis=0), abs=2e-6)
    summary = json.loads((both / "summary.json").read_text())
    assert summary["average"]["metrics"]["nll"] == report["metrics"]["nll"]
    assert list(summary["models"]) == list(NAMES)


@pytest.mark.parametrize("tta", ["none", pytest.param("hflip", marks=pytest.mark.slow)])
def test_what_evaluation_says_prediction_says(command, both, tta):
    """In whatever way the pictures are turned."""
    assert command("evaluate", both, "--tta", tta, "--no-report", "--quiet").code == 0
    name = "test" if tta == "none" else f"test-{tta}"
    known = probabilities(both / "test_results" / name)
    photos = json.loads((both / "test_results" / name / "test_metrics.json").read_text())["data"]
    done = command(
        "predict", photos["source"], "--checkpoint", both, "--tta", tta, "--top-k", "3",
        "--workers", "0", "--output", "rows.jsonl", "--quiet",
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = map(json.loads, (both.parents[1] / "rows.jsonl").read_text().splitlines())
    compared = 0
    for row in rows:
        path = next((one for one in known if row["path"].endswith(one)), None)
        if path is not None:
            compared += 1
            said = [row[f"probability{place}"] for place in ("", "_2", "_3")]
            assert said == pytest.approx(sorted(known[path], reverse=True), abs=2e-6)
    assert compared == len(known)


def test_the_newest_training_is_what_other_commands_take(command, place, both):
    """Where one is an ensemble they average it, or say which of its runs they could take."""
    done = command("evaluate", "--no-report", "--json")
    assert json.loads(done.out)["model_name"] == "test_byobnet + test_vit"
    assert command("report", "--quiet").code == 0
    listed = json.loads(command("runs", "--json").out)["runs"]
    assert sorted((row["name"], row["study"], row["status"]) for row in listed) == [
        (f"both/{name}", "both", "finished") for name in NAMES
    ]
    assert command("runs", "show", both / NAMES[0]).code == 0
    assert "Nothing to resume" in command("resume").out
    assert "Nothing to resume" in command("resume", both).out
    for arguments, words in (
        (("runs", "show", both), "is an ensemble of several runs"),
        (("export",), "is an ensemble of several models, and a file holds one"),
        (("evaluate", both, "--fold", "all"), "is an ensemble of several models"),
        (("resume", both, "--epochs", "9"), "name the one to train longer"),
        (("predict", place / "photos", "--checkpoint", both, "--features", "f.npy"), "--features"),
        (("evaluate", both, "--conformal", "0.9"), "--conformal"),
    ):
        done = command(*arguments)
        assert done.code == 2, arguments
        assert words in done.error_lines[0]


def test_the_same_models_are_trained_again_without_a_choice(command, both, monkeypatch):
    """By its ensemble.yaml, to the same average."""
    monkeypatch.setattr("imgcls.jobs.train.choice.choose.features_of", None)
    done = command(
        "train", "--config", both / "ensemble.yaml", "--output", "again", "--quiet", "--json"
    )
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["model_choice"]["reason"] == "all that can be taken"
    before = json.loads((both / "summary.json").read_text())["average"]
    assert found["average"]["metrics"] == before["metrics"]


def test_a_run_that_is_gone_on_with_is_the_ensemble(command, both):
    """The one that was trained is left as it is, and their average is evaluated in the end."""
    shutil.rmtree(both / NAMES[1] / "fold_0")
    (both / "summary.json").unlink()
    first = (both / NAMES[0] / "fold_0" / "history.csv").read_bytes()
    assert ensemble_of(both / NAMES[1]) == both
    assert not is_whole(both)
    done = command("evaluate", both, "--no-report")
    assert "test_vit in" in done.error_lines[0]
    assert "not trained yet; go on with: imgcls resume" in done.error_lines[0]
    done = command("resume", both / NAMES[1], "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["average"]["split"] == "test"
    assert is_whole(both)
    assert (both / NAMES[0] / "fold_0" / "history.csv").read_bytes() == first


@pytest.mark.slow
def test_the_best_of_more_models_are_trained(command, place, tmp_path):
    """Those with the least log loss; with folds each has them all, and val is no split to score."""
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "test_resnet.safetensors")
    for name in NAMES:
        shutil.copy(place / "weights" / f"{name}.safetensors", tmp_path)
    (tmp_path / "weights").mkdir()
    for file in tmp_path.glob("*.safetensors"):
        file.rename(tmp_path / "weights" / file.name)
    done = command(
        "train", place / "photos", *OPTIONS, "--model", "auto", "--weights",
        tmp_path / "weights", "--ensemble-models", "2", "--folds", "2", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    losses = {one["name"]: one["log_loss"]["value"] for one in found["model_choice"]["candidates"]}
    assert found["model_choice"]["ensemble"] == sorted(losses, key=losses.get)[:2]
    assert [len(member["folds"]) for member in found["members"]] == [2, 2]
    assert len(found["average"]["ensemble"]["folds"]) == 4
    done = command("evaluate", "--split", "val")
    assert done.code == 2
    assert "was trained on by some of the folds" in done.error_lines[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ensemble-models", "2"), "--ensemble-models is for choosing a model"),
        (("--model", "auto", "--ensemble-models", "3"), "2 of its models can be taken, where"),
        (
            ("--model", "auto", "--models", "test_vit,test_byobnet", "--ensemble-models", "3"),
            "--models names 2 only",
        ),
    ],
)
def test_too_few_models_are_refused(command, place, tmp_path, options, words):
    """In one line, with nothing written."""
    weights = () if options[0] != "--model" else ("--weights", place / "weights")
    done = command("train", place / "photos", *OPTIONS, *options, *weights)
    assert done.code == 2
    assert words in done.error_lines[0]
    assert not (tmp_path / "outputs").exists()
