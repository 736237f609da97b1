"""`imgcls train --preset fast|default|best`: how much time a training is worth."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import timm
import yaml
from conftest import save_crops, tiny_config
from safetensors.torch import save_file

import imgcls
from imgcls.cli.boundary import run as run_command
from imgcls.errors import ConfigError
from imgcls.jobs.plan.cost import fitting
from imgcls.jobs.plan.cost.timing import PictureTimes
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.train import time_budget
from imgcls.jobs.train.start import begin
from imgcls.jobs.train.time_budget import expected_s
from imgcls.jobs.train.train import train

NAME = "test_resnet"
QUICK = (
    "--workers", "0", "--batch-size", "16", "--device", "cpu", "--img-size", "32", "--epochs", "1",
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory, crops):
    """A folder with photos/, weights/ of two models, and outputs/best: three folds and their
    average."""
    place = tmp_path_factory.mktemp("preset")
    save_crops(crops, place / "photos", (20, 18, 16))
    (place / "weights").mkdir()
    for name in (NAME, "test_vit"):
        save_file(timm.create_model(name).state_dict(), place / "weights" / f"{name}.safetensors")
    code = run_command(
        ["train", str(place / "photos"), *QUICK, "--preset", "best", "--folds", "3", "--quiet",
         "--model", NAME, "--weights", str(place / "weights" / f"{NAME}.safetensors"),
         "--experiment", "best", "--output", str(place / "outputs")]
    )  # fmt: skip
    assert code == 0
    return place


@pytest.fixture
def one(place):
    """Options that name one model and its weights."""
    return ("--model", NAME, "--weights", place / "weights" / f"{NAME}.safetensors")


def config_of(folder, name="config.yaml"):
    return yaml.safe_load((folder / name).read_text())


def probabilities(folder):
    with (folder / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    columns = [name for name in rows[0] if name.startswith("prob_")]
    return {row["path"]: np.array([float(row[name]) for name in columns]) for row in rows}


def test_fast_trains_the_classifier_alone(command, place, one, tmp_path):
    """But for what is asked for beside it; the config names what was done."""
    train = ("train", place / "photos", *QUICK, *one, "--preset", "fast", "--quiet")
    assert command(*train, "--experiment", "fast").code == 0
    assert config_of(tmp_path / "outputs" / "fast")["recipe"]["tune"] == "head"
    assert command(*train, "--tune", "full", "--experiment", "full").code == 0
    assert config_of(tmp_path / "outputs" / "full")["recipe"]["tune"] == "full"


def test_fast_is_refused_where_there_is_nothing_to_build_on(command, tmp_path):
    """The features of random weights are worth nothing."""
    done = command("train", "digits", "--preset", "fast", "--quiet")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "fast trains the classifier alone, on features of pretrained weights" in done.err
    assert not (tmp_path / "outputs").exists()


def test_best_evaluates_the_average_of_its_folds_flipped_as_in_training(command, place, tmp_path):
    """Each fold alone, by `evaluate --tta hflip`, gives what is averaged."""
    shutil.copytree(place / "outputs", tmp_path / "outputs", symlinks=True)
    best = tmp_path / "outputs" / "best"
    together = probabilities(best / "test_results" / "test-hflip")
    assert len(together) > 5
    alone = []
    for fold in range(3):
        options = ("--fold", fold, "--tta", "hflip", "--no-report", "--quiet")
        assert command("evaluate", best / NAME, *options).code == 0
        results = best / NAME / f"fold_{fold}" / "test_results" / "test-hflip"
        alone.append(probabilities(results))
    for path, found in together.items():
        assert found == pytest.approx(np.mean([part[path] for part in alone], axis=0), abs=2e-6)
    report = json.loads((best / "test_results" / "test-hflip" / "test_metrics.json").read_text())
    summary = json.loads((best / "summary.json").read_text())
    assert summary["average"]["metrics"] == report["metrics"]
    assert [len(folds) for folds in summary["models"].values()] == [3]


def test_best_is_repeated_by_its_file_and_each_run_by_its_own(command, place, tmp_path):
    """ensemble.yaml trains all again; the config of the run in it trains no average."""
    best = place / "outputs" / "best"
    again = ("train", "--config", best / "ensemble.yaml", "--experiment", "again", "--quiet")
    assert command(*again, "--output", tmp_path / "outputs").code == 0
    summaries = [
        json.loads((folder / "summary.json").read_text())["average"]
        for folder in (best, tmp_path / "outputs" / "again")
    ]
    assert summaries[0] == summaries[1]
    assert config_of(best, "ensemble.yaml")["recipe"]["preset"] == "best"
    assert config_of(best / NAME)["recipe"]["preset"] == "default"


def test_best_says_what_it_will_take_and_how_to_use_it(command, place, one, tmp_path):
    """Five folds where none are given; of data without a test split nothing is averaged."""
    split = tmp_path / "split"
    shutil.copytree(place / "photos", split / "train")
    shutil.copytree(place / "photos", split / "val")
    options = ("train", split, *QUICK, *one, "--preset", "best", "--no-preflight")
    done = command(*options, "--tune", "head")
    assert done.code == 0, done.err
    assert "s for all 5 folds" in done.out + done.err
    assert "not evaluated, since there is no test split" in done.out
    assert "imgcls predict photos --checkpoint outputs" in done.out


def test_best_chooses_where_no_model_is_named(command, place):
    """Of the weights at hand; not where training starts from scratch anyway."""
    options = ("--preset", "best", *QUICK, "--dry-run", "--json")
    done = command("train", place / "photos", *options, "--weights", place / "weights")
    plan = json.loads(done.out)
    assert plan["model_name"] in (NAME, "test_vit")
    assert plan["k_folds"] == 5
    assert "Choosing among 2 models" in done.err
    assert json.loads(command("train", "digits", *options).out)["model_name"] == "resnet18"
    asked = ("--models", "test_vit", "--no-pretrained")
    assert json.loads(command("train", "digits", *options, *asked).out)["model_name"] == "test_vit"


def test_best_from_python_is_loaded_as_one_model(place, tmp_path, monkeypatch):
    """The model is chosen there too; what comes back predicts by all folds."""
    monkeypatch.chdir(tmp_path)
    result = imgcls.train(
        place / "photos", preset="best", weights=place / "weights", folds=2, epochs=1, img_size=32,
        batch_size=16, tune="head", device="cpu", workers=0,
    )  # fmt: skip
    [member] = result.members
    assert member.model_name in (NAME, "test_vit")
    assert [fold.fold for fold in member.folds] == [0, 1]
    assert result.average.ensemble.tta == "none"  # the classifier alone saw nothing flipped
    picture = next((place / "photos").glob("*/*.jpg"))
    whole = imgcls.load(result.run, device="cpu").predict_proba([picture])
    parts = [
        imgcls.load(fold.best_checkpoint, device="cpu").predict_proba([picture])
        for fold in member.folds
    ]
    assert whole == pytest.approx(np.mean(parts, axis=0), abs=1e-5)


def test_best_takes_the_folds_that_the_data_bring(command, place, one, tmp_path):
    """And one fold alone is no average."""
    rows = [
        f"{path},{path.parent.name},{number % 3}"
        for number, path in enumerate(sorted((place / "photos").glob("*/*.jpg")))
    ]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,fold", *rows]) + "\n")
    options = ("train", "table.csv", *QUICK, *one, "--preset", "best")
    assert json.loads(command(*options, "--dry-run", "--json").out)["k_folds"] == 3
    done = command(*options, "--fold", "1")
    assert done.code == 2
    assert "1 is one of the folds that --preset best averages" in done.err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--preset=best", "a search compares single trainings"),
        ("--config=space.yaml", "recipe.preset is not an option to search over"),
    ],
)
def test_a_search_varies_single_trainings(command, photos, tmp_path, option, said):
    """Neither its trials nor its choices are presets."""
    (tmp_path / "space.yaml").write_text("search: {space: {recipe.preset: [fast, default]}}\n")
    done = command("tune", photos, *option.split("="), "--trials", "1", "--quiet")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert said in done.err
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("options", "model", "said"),
    [
        (("--ensemble-models", "2", "--weights", "FOLDER"), "one of two", None),
        (("--models", "test_vit", "--weights", "FOLDER"), "test_vit", None),
        (("--no-pretrained",), "resnet18", None),
        (("--no-pretrained", "--models", "test_vit"), "test_vit", None),
        (("--no-pretrained", "--ensemble-models", "2"), None, "none of its models can be taken"),
        (("--model", "resnet18", "--models", "test_vit"), None, "--model resnet18 is chosen"),
        (("--folds", "0"), None, "0 leaves --preset best nothing to average"),
    ],
)
def test_best_beside_what_chooses_a_model(command, place, options, model, said):
    """What is for choosing goes with it where no model is named, and only there."""
    options = [place / "weights" if option == "FOLDER" else option for option in options]
    done = command(
        "train", place / "photos", *QUICK, "--preset", "best", *options, "--dry-run", "--json"
    )
    if said is not None:
        assert done.code == 2
        assert said in done.err
        return
    assert done.code == 0, done.err
    plan = json.loads(done.out)
    assert plan["k_folds"] == 5
    assert plan["model_name"] in ((NAME, "test_vit") if model == "one of two" else (model,))
    assert any("plan of the first" in note for note in plan["notes"]) is (model == "one of two")


def test_a_file_of_weights_is_of_the_default_model(command, place, tmp_path):
    """As without the preset; nothing is chosen."""
    weights = tmp_path / "resnet18.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), weights)
    options = ("--preset", "best", *QUICK, "--weights", weights, "--dry-run", "--json")
    plan = json.loads(command("train", place / "photos", *options).out)
    assert plan["model_name"] == "resnet18"


def test_a_split_without_folds_gives_nothing_to_average(photos):
    """Rows from Python are a split of their own."""
    from imgcls.data.open import open_source

    table = open_source(str(photos))
    rows = [
        {
            "path": key,
            "label": key.split("/")[0],
            "split": "train" if number % 3 else "val",
            "fold": "",
        }
        for number, key in enumerate(table.keys)
    ]
    with pytest.raises(ConfigError, match="best averages folds"):
        train(tiny_config(photos, recipe={"preset": "best"}), split_rows=rows)


def test_an_estimator_is_one_model(crops):
    """Before anything is trained."""
    pictures = [picture for some in crops.values() for picture in some[:4]]
    labels = [name for name in crops for _ in range(4)]
    with pytest.raises(ValueError, match="an ImageClassifier is one model"):
        imgcls.ImageClassifier(model="test_resnet", preset="best").fit(pictures, labels)


def test_a_single_run_is_not_begun_for_an_average(photos):
    """`Trainer.begin` is for one run."""
    with pytest.raises(ConfigError, match=r"imgcls\.train begin"):
        begin(tiny_config(photos, recipe={"preset": "best"}))


def test_the_plan_says_how_long_it_takes(command, place, one):
    """On the screen and in JSON; nobody waits for what nobody reads."""
    options = ("train", place / "photos", *QUICK, *one)
    assert "Time        about 5 s, if it does not stop early" in command(*options, "--dry-run").out
    assert json.loads(command(*options, "--dry-run", "--json").out)["expected_s"] > 0


@pytest.mark.parametrize(
    ("workers", "picture_s"),
    [
        (0, (0.5 + 0.25, 0.125 + 0.0625)),  # one behind the other
        (1, (0.5 + 0.25 / 4, 0.125 + 0.0625 / 4)),  # loading takes its part of four cores
    ],
)
def test_expected_time_is_that_of_all_pictures(photos, monkeypatch, workers, picture_s):
    """By hand, for 3 epochs of 2 folds from scratch."""
    monkeypatch.setattr(time_budget, "available_cores", lambda: 4)
    config = tiny_config(
        photos, data={"folds": 2}, optim={"epochs": 3}, runtime={"workers": workers}
    )
    plan = make_plan(config)
    assert expected_s(plan) is None
    plan.memory.times = PictureTimes(0.5, 0.125, loaded_s=0.25, viewed_s=0.0625, features=8)
    train_count, val_count = (
        sum(len(plan.data.rows(split, fold)) for fold in (0, 1)) for split in ("train", "val")
    )
    expected = 3 * (train_count * picture_s[0] + val_count * picture_s[1])
    assert expected_s(plan) == pytest.approx(expected)


def test_loading_that_is_slower_than_the_model_is_what_takes_the_time(photos):
    """One process that loads keeps the model waiting."""
    plan = make_plan(tiny_config(photos, optim={"epochs": 1}, runtime={"workers": 1}))
    plan.memory.times = PictureTimes(0.01, 0.0, loaded_s=1.0, viewed_s=0.0, features=8)
    assert expected_s(plan) == pytest.approx(len(plan.data.rows("train", 0)))


@pytest.mark.parametrize("head", ["linear", "logistic"])
def test_the_classifier_alone_takes_its_features(photos, head):
    """Every picture passes the backbone once, however the classifier is trained then."""
    plan = make_plan(tiny_config(photos, recipe={"tune": "head", "head": head}))
    plan.memory.times = PictureTimes(9.0, 2.0, loaded_s=9.0, viewed_s=1.0, features=8)
    pictures = sum(len(plan.data.rows(split, 0)) for split in ("train", "val"))
    assert expected_s(plan) == pytest.approx(3 * pictures, rel=0.05)


def test_a_fit_in_blocks_is_announced_by_its_passes(photos, monkeypatch):
    """Not by those of scikit-learn, which nobody waits for there."""
    plan = make_plan(tiny_config(photos, recipe={"tune": "head", "head": "logistic"}))
    plan.memory.times = PictureTimes(0.0, 0.0, loaded_s=0.0, viewed_s=0.0, features=512)
    monkeypatch.setattr(time_budget, "seconds", lambda *_arguments: 1.0)
    rows = len(plan.data.rows("train", 0))
    assert expected_s(plan) == pytest.approx(2500)
    monkeypatch.setattr(fitting, "MOST_VALUES", rows)
    assert expected_s(plan) == pytest.approx(2 * 80)
