"""--fold all, --ensemble and --tta: averages that equal a plain loop over models and views."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import OFFLINE
from sklearn import metrics as sk

from imgcls.engine.scoring.ensembles import VIEWS, Ensemble
from imgcls.jobs.page.evaluated import class_counts
from imgcls.metrics.comparison import paired_differences
from imgcls.metrics.intervals import fold_interval
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.resampling import Resampler
from imgcls.storage.evaluations import read_predictions
from imgcls.storage.tables import read_csv


@pytest.fixture
def run(command, photos):
    done = command("train", photos, *OFFLINE, "--epochs", "1", "--lr", "3e-3", "--folds", "3")
    assert done.code == 0, done.err
    [run] = (photos.parent / "outputs").iterdir()
    return run


def test_training_announces_each_fold_and_ends_with_all_of_them(command, photos):
    """A heading a fold, the time of all, and the command that pools them."""
    done = command("train", photos, *OFFLINE, "--epochs", "1", "--folds", "3")
    assert done.code == 0, done.err
    headings = [line for line in done.err.splitlines() if line.startswith("Fold ")]
    assert headings == ["Fold 0 (1 of 3)", "Fold 1 (2 of 3)", "Fold 2 (3 of 3)"]
    assert "│ Time " in done.out
    assert done.out.rstrip().endswith("--fold all")


RANGES = {"cohen_kappa": (-1, 1), "mcc": (-1, 1), "nll": (0, np.inf), "brier": (0, 2)}


def evaluated(command, *arguments):
    done = command("evaluate", *arguments, "--ci-samples", "200", "--no-report", "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_an_unfinished_run_gets_its_summary_from_training_alone(command, run, tmp_path):
    """The file marks a finished run; an evaluation before that leaves it alone."""
    begun = tmp_path / "begun"
    shutil.copytree(run, begun, symlinks=True)
    shutil.rmtree(begun / "fold_2")
    (begun / "summary.json").unlink()
    arguments = ("evaluate", begun, "--fold", "all", "--no-report")
    done = command(*arguments)
    assert done.code == 0, done.err
    assert "summary.json is left alone: the run is unfinished" in done.err
    assert not (begun / "summary.json").exists()
    assert command(*arguments, "--results-dir", tmp_path / "mine").code == 0
    assert (tmp_path / "mine" / "summary.json").is_file()


def test_all_folds_are_pooled_and_averaged(command, run):
    """Every picture outside the test split once; the average on the test split is the mean."""
    report = evaluated(command, "--fold", "all")
    pooled = read_predictions(run / "test_results" / "val")
    assert len(set(pooled.keys)) == 41 == report["metrics"]["samples"]
    assert report["metrics"]["balanced_accuracy"] == pytest.approx(
        sk.balanced_accuracy_score(pooled.labels, pooled.predicted)
    )
    across = report["cross_validation"]
    scores = [row["accuracy"] for row in across["per_fold"]]
    assert across["mean"]["accuracy"] == pytest.approx(np.mean(scores))
    cut = fold_interval(scores, limits=(0, 1))
    assert across["interval"]["accuracy"] == pytest.approx(cut)
    for name, (low, high) in across["interval"].items():
        lowest, highest = RANGES.get(name, (0, 1))
        assert lowest <= low <= across["mean"][name] <= high <= highest, name
    assert "widened by the spread between the folds' models" in report["intervals_method"]
    assert json.loads((run / "summary.json").read_text())["pooled"] == report["metrics"]

    alone = [evaluated(command, "--fold", str(fold)) for fold in range(3)]
    members = [read_predictions(run / f"fold_{fold}/test_results/test") for fold in range(3)]
    mean = np.mean([member.probabilities for member in members], axis=0)
    average = read_predictions(run / "test_results" / "test")
    assert np.allclose(average.probabilities, mean, atol=1e-6)
    gain = report["ensemble"]["gain"]["nll"]
    assert gain["other"] == pytest.approx(np.mean([r["metrics"]["nll"] for r in alone]), rel=1e-5)
    assert gain["this"] == pytest.approx(report["ensemble"]["metrics"]["nll"])
    low, high = gain["interval"]
    assert low < gain["difference"] < high
    assert not list(run.rglob(".tmp-*"))


def test_the_screen_tells_of_folds_and_average(command, run):
    """In words and within 80 columns."""
    done = command("evaluate", "--fold", "all")
    for words in ("Over folds", "±", "Averaged", "3 folds on test", "against one fold alone"):
        assert words in done.out
    # where benchmark takes one, a run of several folds is none
    assert f"imgcls benchmark outputs/{run.name}/fold_0" in done.out.replace("\n", " ")


def test_one_fold_alone_is_not_pooled(command, photos):
    """It says how many are trained, and how to train the others."""
    options = ("--epochs", "1", "--folds", "3", "--fold", "1")
    assert command("train", photos, *OFFLINE, *options).code == 0
    done = command("evaluate", "--fold", "all")
    assert (done.code, len(done.error_lines)) == (2, 1), done.err
    assert "has 1 of its 3 folds trained, and this takes several" in done.err


def test_views_are_averaged(command, run):
    """--tta d4 is the mean over the eight symmetries, each scored by itself."""
    report = evaluated(command, "--ensemble", "--tta", "d4")
    assert report["ensemble"]["views"] == 8
    assert report["fold"] == "all"
    single = evaluated(command, "--fold", "1", "--tta", "hflip")
    assert single["folder"].endswith("fold_1/test_results/test-hflip")
    assert single["ensemble"]["folds"] == [1]


def test_requests_that_would_score_what_was_trained_on_are_refused(command, run):
    """Each in one line."""
    for arguments, words in (
        (("--ensemble", "--split", "val"), "was trained on by some of the folds"),
        (("--fold", "all", "--tta", "hflip"), "leave --data, --tta"),
        (("--ensemble", run / "fold_0"), "is not a run of several folds"),
    ):
        done = command("evaluate", *arguments)
        assert done.code == 2, arguments
        assert words in done.error_lines[0]


@pytest.mark.parametrize("views", list(VIEWS))
def test_together_is_the_mean_of_softmaxes(views):
    """Over models, their temperatures, and the distinct symmetries of a picture."""
    torch.manual_seed(0)
    models = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(27, 4)) for _ in range(2)]
    images = torch.randn(5, 3, 3, 3)
    seen = {view(images).numpy().tobytes() for view in VIEWS[views]}
    assert len(seen) == len(VIEWS[views])
    with torch.inference_mode():
        scores = Ensemble(models, VIEWS[views], (1.0, 2.0))(images)
        parts = [
            (model(view(images)) / heat).softmax(-1)
            for model, heat in zip(models, (1.0, 2.0), strict=True)
            for view in VIEWS[views]
        ]
        assert torch.allclose(scores[:, 0].exp(), torch.stack(parts).mean(0), atol=1e-6)
        assert torch.allclose(scores[:, 2].exp(), (models[1](images) / 2).softmax(-1), atol=1e-6)


def test_a_paired_interval_is_narrower_than_two_apart():
    """A model that is right wherever the other is, and on a few pictures more, is better."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    right = rng.random(300) < 0.7
    better = right | (np.arange(300) % 30 == 0)

    def answers(correct):
        logits = np.eye(3, dtype=np.float32)[np.where(correct, labels, (labels + 1) % 3)]
        return Predictions(tuple(map(str, range(300))), logits, labels)

    rows = paired_differences(
        answers(better).outcomes, [answers(right).outcomes], Resampler(labels, 1000, 0)
    )
    row = rows["accuracy"]
    assert row.difference == pytest.approx(better.mean() - right.mean())
    assert 0 < row.interval[0] < row.difference < row.interval[1]
    assert row.interval[1] - row.interval[0] < 0.05


def test_the_interval_over_folds_of_a_worked_example():
    """0.8, 0.9, 1.0: t(2) = 4.3027, std 0.1, variance factor 1/3 + 1/2."""
    low, high = fold_interval([0.8, 0.9, 1.0])
    reach = 4.302653 * 0.1 * (1 / 3 + 1 / 2) ** 0.5
    assert (low, high) == pytest.approx((0.9 - reach, 0.9 + reach))
    assert fold_interval([0.8, 0.9, 1.0], limits=(0.6, 1)) == (0.6, 1)


def test_the_page_counts_the_pictures_of_a_fold(command, photos):
    """Its own val pictures, none twice; one that cannot be read is in no split."""
    (photos / "china" / "000.jpg").write_bytes(b"no picture")
    train = ("train", photos, *OFFLINE, "--epochs", "1", "--folds", "3", "--on-bad-image", "skip")
    assert command(*train).code == 0
    [run] = (photos.parent / "outputs").iterdir()
    rows = list(csv.DictReader((run / "splits.csv").read_text().splitlines()))
    names = ["china", "flower", "violet"]

    def total(fold):
        counts = class_counts(run, names, fold)
        return {k: sum(row[k] for row in counts) for k in counts[0] if k != "class"}

    of_fold = Counter(row["fold"] for row in rows if row["split"])
    for fold in "012":
        assert total(fold) == {
            "train": sum(of_fold[other] for other in "012" if other != fold),
            "val": of_fold[fold],
            "test": of_fold[""],
            "left out": 1,
        }
    assert total("all") == {
        **{f"fold {fold}": of_fold[fold] for fold in "012"}, "test": of_fold[""], "left out": 1,
    }  # fmt: skip
    assert command("evaluate", "--fold", "all", "--on-bad-image", "skip").code == 0
    page = (run / "test_results" / "val" / "report.html").read_text()
    assert "Fold 2" in page
    assert "Left out" in page


def test_a_changed_test_picture_is_no_missing_test_split(command, run):
    """It is named before anything is scored; the run was said to have no test split."""
    path = next(row["path"] for row in read_csv(run / "splits.csv") if row["split"] == "test")
    file = next(Path.cwd().rglob(path))
    file.write_bytes(file.read_bytes() + b"\0")
    done = command("evaluate", "--fold", "all", "--ci", "none", "--no-report")
    assert done.code == 2
    assert path in done.error_lines[0]
    assert "Scoring" not in done.err


def test_what_is_to_be_known_of_the_average_is_told_too(command, run):
    """Its notes stand among those of all folds, not in its own files only."""
    path = next(row["path"] for row in read_csv(run / "splits.csv") if row["split"] == "test")
    next(Path.cwd().rglob(path)).write_bytes(b"no picture")
    options = ("--fold", "all", "--ci", "none", "--no-report", "--on-bad-image", "skip")
    done = command("evaluate", *options)
    assert done.code == 0, done.err
    [note] = [line for line in done.err.splitlines() if "averaged on test: " in line]
    report = json.loads((run / "test_results/val/test_metrics.json").read_text())
    assert [n for n in report["notes"] if n in note]


def test_training_and_evaluation_know_the_same_of_a_runs_pictures(command, photos):
    """What chose the best epoch, also by a relative path and without recorded contents."""
    arguments = ("train", photos, *OFFLINE, "--epochs", "1", "--folds", "2", "--no-preflight")
    assert command(*arguments, "--name", "plain").code == 0
    file = Path("outputs/plain/fold_1/test_results/val/test_metrics.json")
    trained = json.loads(file.read_text())["trained_on"]
    assert trained["val"] == trained["pictures"]
    assert command("evaluate", "outputs/plain", "--fold", "all", "--ci", "none").code == 0
    assert json.loads(file.read_text())["trained_on"] == trained


def test_one_of_the_data_s_own_folds_needs_no_number_of_folds(command, photos, tmp_path):
    """--fold N chooses among them; one that is not there is named with those that are."""
    rows = [f"{p.relative_to(tmp_path)},{p.parent.name},{i % 3}" for i, p in
            enumerate(sorted(photos.rglob("*.jpg")))]  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join(["path,label,fold", *rows]))
    done = command("train", "t.csv", *OFFLINE, "--fold", "2", "--dry-run", "--json")
    assert json.loads(done.out)["folds"] == [2]
    done = command("train", "t.csv", *OFFLINE, "--fold", "3", "--dry-run")
    assert (done.code, "own folds are 0 to 2" in done.err) == (2, True), done.err
    done = command("train", photos, *OFFLINE, "--fold", "1", "--dry-run")
    assert (done.code, "needs --folds K" in done.err) == (2, True), done.err
