"""The scripts beside the recipes' page."""

from __future__ import annotations

import argparse
import csv
import importlib
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

RECIPES = Path(__file__).parents[1] / "examples" / "recipes"


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, RECIPES / script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture
def script(monkeypatch):
    """A module beside the page, by its name."""
    monkeypatch.syspath_prepend(RECIPES)
    own = {file.stem for file in RECIPES.glob("*.py")}
    before = {name: sys.modules.pop(name) for name in own & sys.modules.keys()}
    yield importlib.import_module
    for name in own & sys.modules.keys():
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def sets(photos, tmp_path):
    """A folder with one set of three kinds of crops; two pictures in a row are a group."""
    sets = tmp_path / "sets"
    sets.mkdir()
    photos.rename(sets / "photos")
    with (sets / "photos" / "table.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("path", "label", "group", "test_path"))
        for file in sorted((sets / "photos").glob("*/*.jpg")):
            path = file.relative_to(sets / "photos")
            group = f"{path.parent}-{int(file.stem) // 2}"
            writer.writerow((path, path.parent, group, path.with_suffix(".blurred")))
    return sets


@pytest.fixture
def weights(tmp_path):
    """Weights of the tiny model."""
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet").state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


def test_each_picture_is_in_the_test_of_one_fold_and_no_group_on_two_sides(sets, script, tmp_path):
    """And a test picture is shown as its test_path, which nobody trains on."""
    tested = []
    for fold in range(5):
        table = tmp_path / f"{fold}.csv"
        script("folds").write_fold(sets / "photos", fold, table)
        sides = defaultdict(set)
        for row in csv.DictReader(table.read_text().splitlines()):
            sides[row["group"]].add(row["split"])
            path = Path(row["path"])
            assert (path.suffix == ".blurred") == (row["split"] == "test")
            tested += [path.with_suffix("")] if row["split"] == "test" else []
        assert all(len(splits) == 1 for splits in sides.values())
        assert {"train", "val", "test"} == set.union(*sides.values())
    assert len(tested) == len(set(tested)) == 48


def test_of_a_larger_set_as_many_as_asked_for_are_trained_on(sets, script, tmp_path):
    """By whole groups, each fold others of them; all the rest is in the test."""
    trained = []
    for fold in range(2):
        table = tmp_path / f"{fold}.csv"
        script("folds").write_fold(sets / "photos", fold, table, 24)
        sides = defaultdict(set)
        rows = list(csv.DictReader(table.read_text().splitlines()))
        for row in rows:
            sides[row["group"]].add(row["split"] == "test")
        assert all(len(splits) == 1 for splits in sides.values())
        trained.append({row["path"] for row in rows if row["split"] != "test"})
        assert len(rows) == 48
        assert 20 <= len(trained[-1]) <= 28
        assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert trained[0] != trained[1]


def test_fine_tune_first_trains_the_head_and_the_norms_alone(sets, script, weights, tmp_path):
    """As fastai's frozen epoch does; then all layers, the body at a hundredth of the rate."""
    script("folds").write_fold(sets / "photos", 0, tmp_path / "0.csv")
    table = tmp_path / "0.csv"
    table.write_text(table.read_text().replace(".blurred", ".jpg"))
    task = script("pictures").Task(table, "test_resnet", weights, 32)
    recipe = script("baselines").fastai_fine_tune(task, 1)
    first, second = recipe.phases
    assert first.rates == [2e-4, 2e-3]
    assert second.rates == [1e-5, 1e-3]
    model = recipe.model
    norms = {name for name, value in model.body.named_parameters() if value.ndim == 1}
    before = {name: value.clone() for name, value in model.body.named_parameters()}
    recipe.phases = [first]
    script("training").Training(task, recipe).fit()
    moved = {n for n, value in model.body.named_parameters() if not torch.equal(value, before[n])}
    assert moved
    assert moved <= norms
    recipe.phases = [second]
    script("training").Training(task, recipe).fit()
    assert any(not torch.equal(value, before[n]) and n not in norms
               for n, value in model.body.named_parameters())  # fmt: skip


def test_layer_decay_counts_from_the_classifier_to_the_first_layer(script):
    """As AutoGluon counts: stages of blocks between the two."""
    layer = script("baselines").layers_from_the_top(timm.create_model("tf_efficientnet_lite0"))
    assert layer("classifier.weight") == layer("conv_head.weight") == 0
    assert layer("blocks.6.0.conv_pw.weight") == 1
    assert layer("blocks.0.0.conv_pw.weight") == 7
    assert layer("conv_stem.weight") == 8


def test_the_tables_tell_a_worse_contestant_from_one_that_is_as_good(script, tmp_path):
    """In bold what the interval leaves no doubt about; ranks over the sets."""
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    truth = np.eye(3)[labels]
    good = 0.7 * truth + 0.1
    wrong = np.where(rng.random(300)[:, None] < 0.4, np.roll(good, 1, axis=1), good)
    file_of = script("compare").probabilities_file
    rows = []
    for name, probabilities in (("imgcls", good), ("LP-FT", good), ("logistic regression", wrong)):
        for fold in (0, 1):
            file = file_of(tmp_path, "photos", fold, name)
            file.parent.mkdir(exist_ok=True)
            groups = np.array([f"{fold}-{number}" for number in range(300)])
            np.savez(file, val=probabilities, test=probabilities, val_labels=labels,
                     test_labels=labels, test_groups=groups)  # fmt: skip
            rows.append({"set": "photos", "fold": fold, "contestant": name, "cpu_s": 1.0})
    rows.append({"set": "photos", "fold": 0, "contestant": "timm's script", "cpu_s": 1.0})
    contestants = ("imgcls", "logistic regression", "LP-FT", "timm's script")
    text = script("tables").tables(tmp_path, rows, contestants, "imgcls")
    by_name = {line.split("|")[1].strip(): line for line in text.splitlines() if "|" in line}
    assert "2 folds, 600 test pictures. Not done: timm's script." in text
    assert "| LP-FT | 100.0 | +0.0" in text
    assert "| logistic regression | 6" in text
    assert "| **-" in text
    assert by_name["imgcls"].split("|")[3].strip() == "1.50"
    assert by_name["logistic regression"].split("|")[3:5] == [" 3.00 ", " 0, 1 "]


def test_the_small_sets_table_counts_the_draws_where_the_default_is_behind(script):
    """By more than a point."""
    scores = {"imgcls": np.array([60.0, 70.0]), "imgcls --tune head": np.array([61.5, 66.5])}
    last = script("small").table(scores).splitlines()[-1]
    assert last == "| imgcls --tune head | 64.0 ± 3.5 | +1.0 | -1.5 | 1 of 2 |"


def test_a_recipe_trains_as_long_as_the_default_did_on_the_same_fold(script, tmp_path):
    """Where that is not known, it says what to do; its own 20 epochs take what they take."""
    compare = script("compare")
    common = (tmp_path / "data.csv", tmp_path, "test_resnet", tmp_path / "weights", 32)
    budgeted, own = (
        compare.Job("photos", 1, name, *common) for name in ("LP-FT", "LP-FT, 20 epochs")
    )
    args = argparse.Namespace(budget_s=None)
    results = script("results").Results(tmp_path / "results.jsonl", ("set", "fold", "contestant"))
    results.add("photos", 0, "imgcls", cpu_s=7.0)
    with pytest.raises(SystemExit, match="run that one too"):
        compare.with_budget(budgeted, args, results)
    results.add("photos", 1, "imgcls", cpu_s=5.0)
    assert compare.with_budget(budgeted, args, results).budget_s == 5.0
    assert compare.with_budget(own, args, results).budget_s is None


@pytest.mark.slow
def test_the_comparison_goes_on_and_ends_with_a_table(sets, weights, tmp_path):
    """What is finished is not run again; the table has everyone's scores."""
    table = sets / "photos" / "table.csv"
    table.write_text(table.read_text().replace(".blurred", ".jpg"))
    arguments = (
        "compare.py", sets, "--weights", weights, "--model", "test_resnet", "--img-size", 32,
        "--work", tmp_path / "work", "--folds", 0, "--budget-s", 1, "--contestants",
    )  # fmt: skip
    file = tmp_path / "work" / "results.jsonl"
    first = run(*arguments, "imgcls", "logistic regression")
    assert first.returncode == 0, first.stderr
    done = file.read_text()
    recipes = ("timm's script", "fastai's fine_tune", "AutoGluon's defaults", "LP-FT")
    second = run(*arguments, "imgcls", "logistic regression", *recipes)
    assert second.returncode == 0, second.stderr
    assert file.read_text().startswith(done)
    names = ("imgcls", "logistic regression", *recipes)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(row["contestant"] for row in rows) == sorted(names)
    assert all(f"| {name} | " in second.stdout for name in names)
