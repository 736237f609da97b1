"""What the commands do, from their screens, files and exit codes; run in this process."""

from __future__ import annotations

import csv
import gc
import json
import multiprocessing
import shutil
import sys

import numpy as np
import pytest
import timm
import torch
import yaml
from conftest import tiny_config
from PIL import Image
from safetensors.torch import load_file

from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.jobs.plan.plan import make_plan
from imgcls.jobs.train.assemble import assemble
from imgcls.jobs.train.trainer import Trainer
from imgcls.storage.pointers import find_checkpoint

TRAIN = (
    "--model", "test_resnet", "--no-pretrained", "--img-size", "32", "--epochs", "2", "--lr",
    "3e-3", "--device", "cpu", "--workers", "0",
)  # fmt: skip


def no_constants(name):
    raise AssertionError(f"{name} is not strict JSON")


def strict(text):
    return json.loads(text, parse_constant=no_constants)


def only_run(folder):
    [run] = (folder / "outputs").iterdir()
    return run


def read_csv(file):
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def trained(command, photos):
    """A run on the photos: (its folder, what `train` printed)."""
    done = command("train", photos, *TRAIN)
    assert done.code == 0, done.err
    return photos.parent / "outputs" / only_run(photos.parent).name, done


def test_a_run_holds_what_the_design_says(trained, photos):
    """config.yaml, splits.csv, history.csv, best and last."""
    run, done = trained
    names = {".lock", "run.json", "config.yaml", "splits.csv", "preflight.json", "fold_0"}
    assert {p.name for p in run.iterdir()} == names
    assert {p.name for p in (run / "fold_0" / "checkpoints").iterdir()} >= {"best", "last"}
    rows = read_csv(run / "splits.csv")
    assert list(rows[0]) == ["path", "label", "group", "split", "fold", "sha256"]
    assert len(rows) == 48
    history = read_csv(run / "fold_0" / "history.csv")
    assert [row["epoch"] for row in history] == ["1", "2"]
    assert history[0]["val_top_3_accuracy"] == ""  # undefined with three classes
    assert "Next          imgcls evaluate outputs/" in done.out
    assert "34 train, 7 val, 7 test (stratified by hash)" in done.err


def test_its_config_repeats_the_run(trained, command):
    """`imgcls train --config` on a run's config gives the same weights in a run of its own."""
    run, _ = trained
    assert command("train", "--config", run / "config.yaml").code == 0
    runs = sorted((run.parent).iterdir())
    assert len(runs) == 2
    one, two = map(_weights, runs)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def _weights(run, which="last"):
    return load_file(run / "fold_0" / "checkpoints" / which / "model.safetensors")


def test_a_training_that_ends_has_ended_its_loader_processes(photos, tmp_path):
    """At once, and not whenever Python next looks for circles, which then waits for each."""
    config = tiny_config(
        photos, optim={"epochs": 1}, runtime={"workers": 1, "output": str(tmp_path / "outputs")}
    )
    others = set(multiprocessing.active_children())
    gc.disable()
    try:
        trainer = Trainer.begin(config)
        trainer.train_fold(0)
        del trainer
        assert set(multiprocessing.active_children()) <= others
    finally:
        gc.enable()


def test_timm_loads_the_best_checkpoint(trained):
    """local-dir gives the logits that imgcls computes for the same tensor."""
    from imgcls import load_checkpoint
    from imgcls.models.card import model_from_card

    run, _ = trained
    best = run / "fold_0" / "checkpoints" / "best"
    theirs = timm.create_model(f"local-dir:{best}", pretrained=True).eval()
    ours = model_from_card(read_checkpoint(find_checkpoint(run)).card).eval()
    load_checkpoint(ours, run, "cpu")
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs(images))


def test_evaluate_needs_nothing_but_the_run(trained, command):
    """The newest run's best, its own data and split; files in strict JSON and CSV."""
    run, _ = trained
    done = command("evaluate")
    assert done.code == 0, done.err
    folder = run / "fold_0" / "test_results" / "test"
    metrics = strict((folder / "test_metrics.json").read_text())
    assert set(metrics) >= {"checkpoint", "model_name", "split", "fold", "metrics", "speed_metrics"}
    assert metrics["metrics"]["samples"] == 7
    assert metrics["metrics"]["top_3_accuracy"] is None
    assert "3 classes" in metrics["undefined"]["top_3_accuracy"]
    rows = read_csv(folder / "predictions.csv")
    right = sum(int(row["correct"]) for row in rows)
    assert metrics["metrics"]["accuracy"] == pytest.approx(right / 7)
    test_keys = {r["path"] for r in read_csv(run / "splits.csv") if r["split"] == "test"}
    assert {row["path"] for row in rows} == test_keys
    matrix = read_csv(folder / "confusion_matrix.csv")
    assert sum(int(v) for row in matrix for k, v in row.items() if k != "true \\ predicted") == 7
    assert [row["class"] for row in read_csv(folder / "per_class.csv")] == [
        "china", "flower", "violet",
    ]  # fmt: skip


def test_an_evaluation_can_be_read_back(trained, command):
    """logits.npy has a row for each of predictions.csv's, and gives its probabilities."""
    from imgcls.errors import DataError
    from imgcls.storage.evaluations import read_predictions

    run, _ = trained
    report = strict(command("evaluate", "--top-k", "1,2", "--no-report", "--json").out)
    folder = run / "fold_0" / "test_results" / "test"
    assert np.load(folder / "logits.npy", mmap_mode="r").shape == (7, 3)
    predictions, rows = read_predictions(folder), read_csv(folder / "predictions.csv")
    names = report["class_names"]
    for row, label, scores in zip(rows, predictions.labels, predictions.probabilities, strict=True):
        assert row["label"] == names[label]
        assert [float(row[f"prob_{n}"]) for n in names] == pytest.approx(scores, rel=1e-5)
    assert 0 < report["metrics"]["top_2_accuracy"] <= 1
    assert "top_5_accuracy" not in report["metrics"]
    (folder / "logits.npy").unlink()
    with pytest.raises(DataError, match="no whole set of evaluation files"):
        read_predictions(folder)


def test_intervals_can_be_seeded_and_left_out(trained, command):
    """The same seed gives the same ones; --ci none gives none."""
    first, again, other, none = (
        strict(command("evaluate", "--split", "val", "--no-report", "--json", *arguments).out)
        for arguments in ((), ("--seed", "0"), ("--seed", "1"), ("--ci", "none"))
    )
    assert first["intervals"] == again["intervals"] != other["intervals"]
    assert "1,000 resamples" in first["intervals_method"]
    for name, (low, high) in first["intervals"].items():
        assert low <= first["metrics"][name] + 1e-12, name
        assert high >= first["metrics"][name] - 1e-12, name
    assert (none["intervals"], none["intervals_method"]) == ({}, None)


@pytest.mark.parametrize("path", ["", "fold_0", "fold_0/checkpoints/best"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_evaluate_takes_any_folder_and_split(trained, command, path, split):
    """Run, fold and checkpoint folder; --json is one document."""
    run, _ = trained
    done = command("evaluate", run / path, "--split", split, "--no-report", "--json")
    report = strict(done.out)
    assert report["split"] == split
    assert report["metrics"]["samples"] == {"train": 34, "val": 7}[split]


def test_evaluate_agrees_with_the_history(trained, command):
    """The best epoch's validation scores are those of evaluating the best checkpoint on val."""
    run, _ = trained
    report = strict(command("evaluate", "--split", "val", "--no-report", "--json").out)
    history = read_csv(run / "fold_0" / "history.csv")
    epoch = read_checkpoint(find_checkpoint(run)).sidecar.epoch
    best = history[epoch - 1]
    assert report["metrics"]["balanced_accuracy"] == float(best["val_balanced_accuracy"])
    assert report["metrics"]["nll"] == pytest.approx(float(best["val_loss"]), rel=1e-5)


def test_other_data_are_matched_by_class_name(trained, command, tmp_path, photos):
    """Another folder without the first class scores as it should; an extra class is refused."""
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    full = strict(command("evaluate", "--data", other, "--no-report", "--json").out)
    assert full["metrics"]["samples"] == 48
    shutil.rmtree(other / "china")
    fewer = strict(command("evaluate", "--data", other, "--no-report", "--json").out)
    recall = {row["class"]: row["recall"] for row in full["per_class"]}
    again = {row["class"]: row["recall"] for row in fewer["per_class"]}
    assert again == {**recall, "china": None}
    (other / "zebra").mkdir()
    shutil.copy(next((other / "violet").iterdir()), other / "zebra")
    done = command("evaluate", "--data", other)
    assert done.code == 2
    assert "class 'zebra'" in done.err
    assert "china, flower, violet" in done.err


def test_split_folders_that_lack_a_class_shift_no_label(command, tmp_path, crops):
    """Train, evaluate and resume on test/ without the first class (ultralytics#13936)."""
    data = tmp_path / "data"
    for split, classes in (("train", "abc"), ("val", "bc"), ("test", "c")):
        for letter, pictures in zip("abc", crops.values(), strict=True):
            if letter in classes:
                (data / split / letter).mkdir(parents=True)
                for i in range(12 if split == "train" else 4):
                    Image.fromarray(pictures[i]).save(data / split / letter / f"{i}.png")
    assert command("train", data, *TRAIN, "--epochs", "1").code == 0
    for _ in range(2):
        report = strict(command("evaluate", "--no-report", "--json").out)
        assert [row["support"] for row in report["per_class"]] == [0, 0, 4]
        assert report["class_names"] == ["a", "b", "c"]
        run = only_run(tmp_path)
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["optim"]["epochs"] = 2
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        sidecar = run / "fold_0" / "checkpoints" / "last" / "checkpoint.json"
        if "finished" in sidecar.read_text():
            shutil.rmtree(run / "fold_0")  # begin the fold again, by `resume`
        assert command("resume", run).code == 0


def test_folds_partition_and_are_summed_up(command, photos, tmp_path):
    """--folds 3: three folds, mean, std, and pooled metrics equal to scikit-learn's."""
    from sklearn.metrics import balanced_accuracy_score

    done = command("train", photos, *TRAIN, "--epochs", "1", "--folds", "3")
    assert done.code == 0, done.err
    run = only_run(tmp_path)
    summary = strict((run / "summary.json").read_text())
    assert summary["folds"] == 3
    scores = [row["accuracy"] for row in summary["per_fold"]]
    assert summary["mean"]["accuracy"] == pytest.approx(np.mean(scores))
    assert summary["std"]["accuracy"] == pytest.approx(np.std(scores, ddof=1))
    rows = [
        row
        for fold in range(3)
        for row in read_csv(run / f"fold_{fold}" / "test_results" / "val" / "predictions.csv")
    ]
    assert len({row["path"] for row in rows}) == len(rows) == 41
    pooled = balanced_accuracy_score([r["label"] for r in rows], [r["predicted"] for r in rows])
    assert summary["pooled"]["balanced_accuracy"] == pytest.approx(pooled)
    done = command("evaluate")
    assert done.code == 2
    assert "has several folds (0, 1, 2); name the folder of one" in done.err
    assert "`imgcls evaluate --fold all` pools them" in done.err
    assert strict(command("evaluate", "--fold", "1", "--no-report", "--json").out)["fold"] == 1


def test_one_fold_of_several(command, photos, tmp_path):
    """--fold i trains that one alone."""
    assert (
        command("train", photos, *TRAIN, "--epochs", "1", "--folds", "3", "--fold", "2").code == 0
    )
    assert [p.name for p in only_run(tmp_path).glob("fold_*")] == ["fold_2"]


def test_a_taken_name_gets_a_number(command, photos, tmp_path):
    """Nothing is overwritten."""
    for _ in range(2):
        done = command(
            "train", photos, *TRAIN, "--epochs", "1", "--name", "mine", "--project", "runs"
        )
        assert done.code == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["mine", "mine-2"]


def test_aliases_of_other_tools_work(command, photos, tmp_path):
    """--batch, --imgsz, --optimizer, --label-smoothing reach the config."""
    done = command(
        "train", photos, "--model", "test_resnet", "--no-pretrained", "--batch", "9", "--imgsz",
        "48", "--optimizer", "sgd", "--label-smoothing", "0.1", "--dry-run", "--json",
    )  # fmt: skip
    plan = strict(done.out)
    assert (plan["batch_size"], plan["img_size"], plan["opt"]) == (9, 48, "sgd")


def test_the_plan_breaks_no_path_at_80_columns(command, photos, monkeypatch):
    """The folder of the run is copied, so no table may fold it; it stands below the others."""
    monkeypatch.setattr("imgcls.output.console._PIPE_WIDTH", 80)
    folder = "outputs/" + "a_long_name/" * 8 + "of_runs"
    done = command("train", photos, *TRAIN, "--dry-run", "--output", folder)
    lines = done.out.splitlines()
    assert f"Output      {folder}" in lines
    assert any(line.startswith("Split       ") for line in lines)


def test_a_dry_run_tells_everything_and_writes_nothing(command, photos, tmp_path):
    """Counts per class and split, model, parameters, steps, memory, output."""
    done = command("train", photos, *TRAIN, "--dry-run")
    assert done.code == 0
    for words in ("test_resnet", "34 train, 7 val, 7 test", "372,979", "MiB", "outputs", "violet"):
        assert words in done.out
    assert not (tmp_path / "outputs").exists()


def test_resume_of_a_finished_run_says_so(trained, command):
    """Exit 0, nothing trained."""
    run, _ = trained
    before = sorted((run / "fold_0" / "checkpoints").iterdir())
    for arguments in ((), (run,)):
        done = command("resume", *arguments)
        assert done.code == 0
        assert "Nothing to resume" in done.out
    assert sorted((run / "fold_0" / "checkpoints").iterdir()) == before


def test_list_models_answers_in_json_and_text(command):
    """A glob searches everything."""
    entries = strict(command("list-models", "mobilenetv3_*", "--json", "--limit", "2").out)
    assert len(entries) == 2
    assert set(entries[0]) == {
        *("name", "family", "parameters", "input_size", "pretrained_tags"),
        *("licences", "default_tag"),
    }
    listed = command("list-models")
    assert "resnet18" in listed.out
    assert "curated" in listed.err
    assert "curated" not in command("list-models", "--max-params", "3").err
    done = command("list-models", "zzz")
    assert (done.code, done.out) == (2, "")
    assert done.error_lines == ["imgcls: no model fits zzz"]


def test_quiet_leaves_results_only(command, photos):
    """Nothing on stderr when all is well."""
    done = command("train", photos, *TRAIN, "--epochs", "1", "--quiet")
    assert done.err == ""
    assert "Trained" in done.out


def test_a_weights_file_is_where_training_starts(command, photos, tmp_path):
    """The first epoch of a run from another's weights begins near where that one ended."""
    assert command("train", photos, *TRAIN).code == 0
    best = only_run(tmp_path) / "fold_0" / "checkpoints" / "best"
    config = tiny_config(photos, model={"weights": best, "pretrained": "auto"})
    model = assemble(make_plan(config), 0).parts.learner.model
    weights = _weights(only_run(tmp_path), "best")
    key = next(k for k in weights if k.endswith("weight"))
    assert torch.equal(model.state_dict()[key].contiguous(), weights[key])


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_an_output_that_cannot_be_written_is_one_line(command, photos, tmp_path):
    """A file in the place of the folder."""
    (tmp_path / "taken").write_text("x")
    done = command("train", photos, *TRAIN, "--output", tmp_path / "taken")
    assert done.code == 2
    assert "taken is a file, not a folder; name another place" in done.err
