"""--compare, --fail-under and --corruptions through the command."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from conftest import OFFLINE
from PIL import Image
from scipy.stats import binomtest

from imgcls.storage.evaluations import read_predictions

TRAIN = (*OFFLINE, "--epochs", "1", "--lr", "3e-3")


@pytest.fixture
def runs(command, photos):
    """Two runs on the same pictures and split: more epochs, fewer."""
    for name, epochs in (("long", "4"), ("short", "1")):
        done = command("train", photos, *TRAIN, "--epochs", epochs, "--name", name)
        assert done.code == 0, done.err
    return photos.parent / "outputs"


def evaluated(command, *arguments):
    done = command("evaluate", *arguments, "--no-report", "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_two_runs_are_compared_picture_by_picture(command, runs):
    """Differences, McNemar's counts and the changed pictures follow from both predictions."""
    evaluated(command, runs / "short", "--split", "train")
    report = evaluated(command, runs / "long", "--split", "train", "--compare", runs / "short")
    folder = runs / "long" / "fold_0/test_results/train"
    this, other = (
        read_predictions(runs / name / "fold_0/test_results/train") for name in ("long", "short")
    )
    comparison = report["comparison"]
    row = comparison["metrics"]["accuracy"]
    assert row["this"] == report["metrics"]["accuracy"]
    assert row["difference"] == pytest.approx(this.correct.mean() - other.correct.mean())
    assert row["interval"][0] <= row["difference"] <= row["interval"][1]
    only_this = int((this.correct & ~other.correct).sum())
    only_other = int((other.correct & ~this.correct).sum())
    assert only_this + only_other > 0
    assert comparison["mcnemar"] == {
        "only_this_right": only_this,
        "only_other_right": only_other,
        "p_value": pytest.approx(binomtest(only_this, only_this + only_other).pvalue),
    }
    changed = list(csv.DictReader((folder / "changed.csv").read_text().splitlines()))
    assert [row["path"] for row in changed] == [
        key for key, a, b in zip(this.keys, this.correct, other.correct, strict=True) if a != b
    ]
    recalls = {row["class"]: row["this"] for row in comparison["per_class"]}
    assert recalls == {row["class"]: row["recall"] for row in report["per_class"]}
    assert "was trained on 34 of these pictures" in report["notes"][-1]
    arguments = ("--split", "train", "--compare", runs / "short", "--no-report")
    shown = command("evaluate", runs / "long", *arguments).out
    for words in ("Against", "McNemar's exact p =", "Recall that changed most"):
        assert words in shown
    evaluated(command, runs / "long", "--split", "train")
    assert not (folder / "changed.csv").exists()
    assert not list(runs.rglob(".tmp-*"))


def test_a_model_compared_with_itself_does_not_differ(command, runs):
    """Nothing changed, p is 1, and no interval is made up."""
    comparison = evaluated(command, runs / "long", "--compare", runs / "long")["comparison"]
    assert comparison["changed"] == []
    assert comparison["mcnemar"]["p_value"] == 1
    assert comparison["metrics"]["nll"]["difference"] == 0
    assert comparison["metrics"]["nll"]["interval"] is None


def test_classes_in_another_order_are_matched_by_name(command, photos, tmp_path, runs):
    """A model with the classes the other way round gives the same numbers as alone."""
    split = [
        {**row, "path": f"photos/{row['path']}"}
        for row in csv.DictReader((runs / "long" / "splits.csv").read_text().splitlines())
    ]
    order = sorted(split, key=lambda row: row["label"], reverse=True)
    with (tmp_path / "table.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["path", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(order)
    assert command("train", "table.csv", *TRAIN, "--name", "table").code == 0
    alone = evaluated(command, runs / "table", "--data", photos)["metrics"]
    rows = evaluated(command, runs / "long", "--data", photos, "--compare", runs / "table")
    row = rows["comparison"]["metrics"]
    assert row["nll"]["other"] == pytest.approx(alone["nll"])
    assert row["balanced_accuracy"]["other"] == pytest.approx(alone["balanced_accuracy"])


def test_models_of_other_classes_are_not_compared(command, photos, runs):
    """One line that names a class."""
    shutil.rmtree(photos / "violet")
    assert command("train", photos, *TRAIN, "--name", "two").code == 0
    done = command("evaluate", runs / "two", "--compare", runs / "long")
    assert done.code == 2
    assert "know different classes (violet only in one)" in done.error_lines[0]


@pytest.mark.parametrize(
    ("threshold", "code", "words"),
    [
        ("accuracy=0", 0, "reached"),
        ("accuracy=0,balanced_accuracy=1", 1, "below 1"),
        ("balanced_accuracy=90", 2, "90% is 0.9"),
        ("top_5_accuracy=0.5", 1, "top_5_accuracy is undefined"),
        ("nll=0.5", 2, "--fail-under nll: choose from accuracy"),
        ("accuracy", 2, "is not allowed"),
    ],
)
def test_a_missed_threshold_is_exit_code_one(command, runs, threshold, code, words):
    """After the result; a metric that cannot have one is refused before."""
    done = command("evaluate", "--fail-under", threshold, "--no-report")
    assert done.code == code
    assert words in done.out + done.err
    results = runs / "short/fold_0/test_results"
    assert results.exists() == (code < 2)
    if code < 2:
        asked = json.loads((results / "test/test_metrics.json").read_text())["thresholds"]
        assert all(found["passed"] for found in asked.values()) == (code == 0)
    if code == 1:
        assert "Accuracy" in done.out
        assert len(done.error_lines) == 1


def test_corruptions_are_scored_and_the_drop_is_told(command, runs):
    """25 rows of scores; their means and drops add up."""
    found = evaluated(command, runs / "long", "--split", "train", "--corruptions")
    worse = found["corruptions"]
    assert worse["clean"]["accuracy"] == found["metrics"]["accuracy"]
    assert len(worse["by_corruption"]) == 5
    for row in worse["by_corruption"]:
        scores = [severity["accuracy"] for severity in row["severities"]]
        assert row["mean"]["accuracy"] == pytest.approx(np.mean(scores))
        assert row["drop"]["accuracy"] == pytest.approx(
            found["metrics"]["accuracy"] - np.mean(scores)
        )
    assert worse["drop"]["accuracy"] == pytest.approx(
        np.mean([row["drop"]["accuracy"] for row in worse["by_corruption"]])
    )
    assert any(row["drop"]["accuracy"] for row in worse["by_corruption"])
    arguments = ("--split", "train", "--corruptions", "--no-report")
    shown = command("evaluate", runs / "long", *arguments).out
    assert "Accuracy on worse pictures" in shown
    done = command("evaluate", runs / "long", "--corruptions", "--tta", "hflip")
    assert (done.code, "--corruptions" in done.error_lines[0]) == (2, True)


def test_each_model_gets_the_pictures_as_it_was_trained_on_them(command, photos):
    """Another background, grey pictures, another size: the other scores as it does alone."""
    for file in photos.glob("*/*.jpg"):
        # transparent at the left, so that the background is seen
        pixels = np.asarray(Image.open(file).convert("RGBA")).copy()
        pixels[:, :24, 3] = 0
        Image.fromarray(pixels).save(file.with_suffix(".png"))
        file.unlink()
    outputs = photos.parent / "outputs"
    for name, options in {
        "white": (), "black": ("--background", "black"), "grey": ("--in-chans", "1"),
        "large": ("--img-size", "48", "--background", "red"),
    }.items():  # fmt: skip
        assert command("train", photos, *TRAIN, *options, "--name", name).code == 0
    for name in ("black", "grey", "large"):
        alone = evaluated(command, outputs / name)["metrics"]
        report = evaluated(command, outputs / "white", "--compare", outputs / name)
        for metric, row in report["comparison"]["metrics"].items():
            assert row["other"] == pytest.approx(alone[metric], abs=1e-6), (name, metric)
            assert row["this"] == pytest.approx(report["metrics"][metric])
