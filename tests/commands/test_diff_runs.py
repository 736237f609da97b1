"""`imgcls runs diff`: settings, pictures and splits, and metrics against `evaluate --compare`."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import OFFLINE

QUICK = ("--workers", "0", "--device", "cpu", "--quiet", "--no-report")


@pytest.fixture(scope="module")
def two(trained, tmp_path_factory):
    """`single`, and `other` with another rate of learning, both evaluated on test and val."""
    from imgcls.cli.boundary import run

    output = tmp_path_factory.mktemp("two") / "outputs"
    shutil.copytree(trained / "outputs" / "single", output / "single", symlinks=True)
    options = (*OFFLINE, "--device", "cpu", "--quiet", "--no-preflight", "--epochs", "2")
    photos = str(trained / "photos")
    named = ("--lr", "0.01", "--name", "other", "--output", str(output))
    assert run(["train", photos, *options, *named]) == 0
    for name in ("single", "other"):
        for split in ("test", "val"):
            assert run(["evaluate", str(output / name), "--split", split, *QUICK]) == 0
    return output


@pytest.fixture
def outputs(two, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(two, tmp_path / "outputs", symlinks=True))


def differing(command, *runs):
    done = command("runs", "diff", *runs, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def rewritten(file, change):
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows = change(rows)
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def test_the_paired_interval_is_that_of_evaluate_compare(outputs, command):
    """The same numbers, without a model or a picture."""
    found = differing(command, "single", "other")
    assert [(s["split"], s["paired"]) for s in found["splits"]] == [("test", True), ("val", True)]
    compare = ("evaluate", "outputs/other", "--compare", "outputs/single", *QUICK[:4], "--json")
    comparison = json.loads(command(*compare, "--no-report").out)["comparison"]
    [test] = [split for split in found["splits"] if split["split"] == "test"]
    assert test["mcnemar"] == comparison["mcnemar"]
    assert set(test["metrics"]) == set(comparison["metrics"])
    for name, row in comparison["metrics"].items():
        here = test["metrics"][name]
        assert (here["b"], here["a"]) == pytest.approx((row["this"], row["other"]))
        assert here["difference"] == pytest.approx(row["difference"])
        assert here["interval"] == pytest.approx(row["interval"])
    backwards = differing(command, "other", "single")["splits"][0]["metrics"]["accuracy"]
    assert backwards["difference"] == -test["metrics"]["accuracy"]["difference"]


def test_settings_that_differ_are_named(outputs, command):
    """By their dotted names, but not where the runs lie."""
    found = differing(command, "single", "outputs/other")
    settings = {each["name"]: (each["a"], each["b"]) for each in found["settings"]}
    assert settings["optim.lr"][1] == 0.01
    assert settings["optim.epochs"] == (1, 2)
    assert not any(name.startswith("runtime.") for name in settings)
    assert found["data"]["same"] is True
    assert found["data"]["moved"] == []
    shown = command("runs", "diff", "single", "other").out
    assert "optim.lr" in shown
    assert "McNemar's exact p" in shown
    assert "The settings are the same." in command("runs", "diff", "single", "single").out


def test_pictures_that_moved_came_went_or_changed_class_are_told(outputs, command):
    """By splits.csv."""

    def change(rows):
        moved = next(row for row in rows if row["split"] == "train")
        moved["split"] = "test"
        next(row for row in rows if row["split"] == "val")["label"] = "orchid"
        return [*rows[:-1], {**rows[-1], "path": "new.jpg"}]

    rewritten(outputs / "other" / "splits.csv", change)
    data = differing(command, "single", "other")["data"]
    [moved] = data["moved"]
    assert (moved["a"], moved["b"]) == ("train", "test")
    assert (data["only_a"], data["only_b"], data["relabelled"]) == (1, 1, 1)
    assert data["classes_only_b"] == ["orchid"]
    shown = command("runs", "diff", "single", "other").out
    for text in ("train in A, test in B", moved["path"], "Classes only in B  orchid"):
        assert text in shown


def test_other_pictures_are_not_paired(outputs, command):
    """The metrics stand side by side, each with its own interval, and the reason is given."""
    folder = outputs / "other/fold_0/test_results/test"
    rewritten(folder / "predictions.csv", lambda rows: [{**rows[0], "path": "x.jpg"}, *rows[1:]])
    metrics = json.loads((folder / "test_metrics.json").read_text())
    del metrics["sha256"]
    (folder / "test_metrics.json").write_text(json.dumps(metrics))
    split = differing(command, "single", "other")["splits"][0]
    assert (split["paired"], split["mcnemar"]) == (False, None)
    assert "scored on other pictures" in split["note"]
    row = split["metrics"]["accuracy"]
    assert row["interval"] is None
    assert row["interval_b"] == metrics["intervals"]["accuracy"]
    assert row["difference"] == pytest.approx(row["b"] - row["a"])


def test_another_order_of_pictures_and_classes_is_paired_all_the_same(outputs, command):
    """As two models of the same classes may have them."""
    import numpy as np

    before = differing(command, "single", "other")["splits"][0]
    folder = outputs / "other/fold_0/test_results/test"
    rewritten(folder / "predictions.csv", lambda rows: rows[::-1])
    logits = np.load(folder / "logits.npy")
    order = [2, 0, 1]
    np.save(folder / "logits.npy", logits[::-1][:, order])
    metrics = json.loads((folder / "test_metrics.json").read_text())
    del metrics["sha256"]
    metrics["class_names"] = [metrics["class_names"][i] for i in order]
    (folder / "test_metrics.json").write_text(json.dumps(metrics))
    after = differing(command, "single", "other")["splits"][0]
    assert after["paired"]
    assert after["mcnemar"] == before["mcnemar"]
    for name, row in before["metrics"].items():
        assert after["metrics"][name]["difference"] == pytest.approx(row["difference"])
        assert after["metrics"][name]["interval"] == pytest.approx(row["interval"])


@pytest.mark.parametrize("damage", ["logits", "metrics", "all", "splits"])
def test_damaged_results_are_told_or_left_out(outputs, command, damage):
    """Never paired, never a traceback."""
    results = outputs / "other/fold_0/test_results"
    if damage == "logits":
        (results / "test/logits.npy").write_bytes(b"no array")
    elif damage == "metrics":
        (results / "test/test_metrics.json").write_text("{")
    elif damage == "all":
        shutil.rmtree(results)
    else:
        (outputs / "other/splits.csv").write_text("path\n")
    done = command("runs", "diff", "single", "other")
    assert done.code == 0, done.err
    found = differing(command, "single", "other")
    splits = {split["split"]: split["paired"] for split in found["splits"]}
    expected = {"logits": {"test": False, "val": True}, "metrics": {"val": True}, "all": {}}
    assert splits == expected.get(damage, {"test": True, "val": True})
    if damage == "splits":
        assert "splits.csv" in done.err


def test_one_group_alone_gives_no_interval_and_the_reason(outputs, command):
    """Its pictures say no more than one; the differences stand without."""
    for name in ("single", "other"):
        rewritten(
            outputs / name / "splits.csv", lambda rows: [{**row, "group": "one"} for row in rows]
        )
    split = differing(command, "single", "other")["splits"][0]
    assert split["paired"]
    assert {row["interval"] for row in split["metrics"].values()} == {None}
    assert split["note"].startswith("no intervals of the differences: ")


@pytest.mark.parametrize("runs", [(), ("single",), ("single", "nothing")])
def test_two_runs_are_named(outputs, command, runs):
    """Exit 2, one line."""
    done = command("runs", "diff", *runs)
    assert (done.code, len(done.error_lines)) == (2, 1)


def test_it_loads_no_torch(two):
    """Nor timm, though it pairs."""
    code = (
        "import sys; from imgcls.cli.boundary import run\n"
        f"assert run(['runs', 'diff', {str(two / 'single')!r}, {str(two / 'other')!r}]) == 0\n"
        "print('LOADED', sorted({'torch', 'timm'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("LOADED []")
