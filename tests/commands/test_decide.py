"""--costs and --by through the command, with one line for what they cannot use."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from conftest import OFFLINE

from imgcls.metrics import slices
from imgcls.metrics.intervals import bootstrap_intervals
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.slices import slice_metrics
from imgcls.storage.evaluations import read_predictions

COSTS = "true,violet,china,flower\nchina,1,0,2\nflower,4,3,0\nviolet,0,5,6\n"


@pytest.fixture
def run(command, photos):
    assert command("train", photos, *OFFLINE, "--epochs", "1").code == 0
    [run] = (photos.parent / "outputs").iterdir()
    return run


def test_costs_are_matched_by_name_and_averaged(command, run, tmp_path):
    """The mean over the pictures of the cells of true and decided class."""
    (tmp_path / "costs.csv").write_text(COSTS)
    done = command("evaluate", "--costs", "costs.csv", "--no-report", "--json")
    costs = json.loads(done.out)["costs"]
    folder = run / "fold_0/test_results/test"
    rows = list(csv.DictReader((folder / "predictions.csv").read_text().splitlines()))
    table = {row["true"]: row for row in csv.DictReader(COSTS.splitlines())}
    for rule, column in (("predicted", "predicted"), ("least_cost", "least_cost")):
        paid = [float(table[row["label"]][row[column]]) for row in rows]
        assert costs[rule]["mean"] == pytest.approx(np.mean(paid))
    assert costs["saved"]["mean"] == pytest.approx(
        costs["predicted"]["mean"] - costs["least_cost"]["mean"]
    )
    assert costs["changed"] == sum(row["predicted"] != row["least_cost"] for row in rows)
    shown = command("evaluate", "--costs", "costs.csv", "--no-report").out
    assert "Cost of a picture" in shown


def test_decisions_that_cost_more_are_told_and_no_others(command, run, photos, tmp_path):
    """The note stands where they lose against the predicted classes, not where they save or tie."""
    assert command("evaluate", "--data", photos, "--no-report").code == 0
    p = read_predictions(run / "fold_0/test_results/data-photos")
    names = ("china", "flower", "violet")
    index = int(np.bincount(p.predicted).argmax())
    said, safe, dreaded = names[index], *(n for n in names if n != names[index])

    def scored(label, cells):
        """The costs of the pictures that are called `said`, if they were of that class; notes."""
        files = [
            f"photos/{key},{label}"
            for key, i in zip(p.keys, p.predicted, strict=True)
            if i == index
        ]
        (tmp_path / "table.csv").write_text("\n".join(["path,label", *files]))
        rows = [[true, *(cells(true, decided) for decided in names)] for true in names]
        with (tmp_path / "costs.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([["true", *names], *rows])
        asked = ("evaluate", "--data", "table.csv", "--costs", "costs.csv", "--no-report")
        report = json.loads(command(*asked, "--json").out)
        told = "cost more than the predicted classes here"
        assert any(told in n for n in report["notes"]) == (told in " ".join(shown(asked).split()))
        costs = {k: report["costs"][k]["mean"] for k in ("predicted", "least_cost")}
        return costs, any(told in note for note in report["notes"])

    def shown(asked):
        done = command(*asked)
        return done.out + done.err

    def dread(true, decided):
        """A class so dear to miss that the safe one is always decided for."""
        return 1e9 * (decided != safe) if true == dreaded else 1 * (decided == safe)

    assert scored(said, dread) == ({"predicted": 0, "least_cost": 1}, True)
    assert scored(dreaded, dread) == ({"predicted": 1e9, "least_cost": 0}, False)
    every = {"predicted": 1, "least_cost": 1}
    assert scored(safe, lambda true, decided: int(true != decided)) == (every, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (COSTS.replace("china", "chine"), "'chine' is no class of the model (first row)"),
        (COSTS.replace("\nchina,1,0,2", ""), "class 'china' must stand in it once (first column)"),
        (COSTS.replace("4,3,0", "4,x,0"), "'x' for true 'flower', decided 'china'"),
        (COSTS.replace("4,3,0", "4,3"), "'' for true 'flower', decided 'flower'"),
        (COSTS.replace("4,3,0", "4,3,inf"), "'inf' for true"),
    ],
)
def test_a_table_of_costs_that_does_not_fit_is_refused(command, run, tmp_path, text, words):
    """Named, before anything is scored."""
    (tmp_path / "costs.csv").write_text(text)
    done = command("evaluate", "--costs", "costs.csv")
    assert done.code == 2
    assert words in done.error_lines[0]
    assert not (run / "fold_0/test_results").exists()


def test_a_column_that_the_data_lack_is_refused(command, run):
    """A folder has none."""
    done = command("evaluate", "--by", "site")
    assert done.code == 2
    assert "--by site: photos has no such column" in done.error_lines[0]
    assert not (run / "fold_0/test_results").exists()


def test_slices_equal_scoring_their_pictures_alone(command, run, photos, tmp_path):
    """Every value of a table's column, with intervals, on screen and in JSON."""
    sites = {
        file.relative_to(tmp_path).as_posix(): "north" if int(file.stem) % 2 else "south"
        for file in photos.glob("*/*.jpg")
    }
    rows = [f"{key},{key.split('/')[1]},{site}" for key, site in sites.items()]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,site", *rows]))
    done = command("evaluate", "--data", "table.csv", "--by", "site", "--no-report", "--json")
    report = json.loads(done.out)
    rows = {row["value"]: row for row in report["slices"]["site"]}
    assert set(rows) == {"north", "south"}
    p = read_predictions(Path(report["folder"]))
    north = np.array([sites[key] == "north" for key in p.keys])
    assert rows["north"]["samples"] == north.sum() == 24
    assert rows["north"]["metrics"]["accuracy"] == pytest.approx(p.correct[north].mean())
    assert rows["south"]["metrics"]["nll"] == pytest.approx(p.picture_losses[~north].mean())
    low, high = rows["north"]["intervals"]["nll"]
    assert low < rows["north"]["metrics"]["nll"] < high
    shown = command("evaluate", "--data", "table.csv", "--by", "site", "--no-report").out
    assert "By site" in shown
    assert "Balanced acc." in shown


def test_a_slice_of_one_picture_has_no_interval():
    """Nor one of a single group."""
    logits = np.random.default_rng(0).normal(size=(9, 3))
    p = Predictions(tuple("abcdefghi"), logits, np.arange(9) % 3)
    rows = slice_metrics(p, ["x"] * 8 + ["y"], samples=100, seed=0)
    assert [row.samples for row in rows] == [8, 1]
    assert rows[0].intervals["nll"][0] < rows[0].metrics["nll"]
    assert rows[1].intervals == {}
    assert slice_metrics(p, ["x"] * 9, samples=100, seed=0, groups=["g"] * 9)[0].intervals == {}


def test_groups_of_the_data_are_drawn_whole(command, run, photos, tmp_path):
    """Intervals of a table with groups are those over groups, and a slice of one has none."""
    rows = [
        f"photos/{f.parent.name}/{f.name},{f.parent.name},g{int(f.stem) // 4}"
        for f in photos.glob("*/*.jpg")
    ]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,group", *rows]))
    scored = ("evaluate", "--no-report", "--json", "--data")
    report = json.loads(command(*scored, "table.csv").out)
    p = read_predictions(Path(report["folder"]))
    groups = {row.split(",")[0]: row.split(",")[2] for row in rows}
    expected = bootstrap_intervals(p, groups=[groups[key] for key in p.keys], top_k=(1, 3, 5))
    assert set(report["intervals"]) == set(expected)
    for name, interval in expected.items():
        assert report["intervals"][name] == pytest.approx(interval), name
    assert "bootstrap of groups" in report["intervals_method"]
    alone = "path,label,group\n" + "\n".join(",".join([*r.split(",")[:2], "g"]) for r in rows)
    (tmp_path / "alone.csv").write_text(alone)
    report = json.loads(command(*scored, "alone.csv").out)
    assert report["intervals"] == {}
    assert "one group alone" in report["intervals_method"]


def test_a_blank_cell_is_no_group(command, run, photos, tmp_path):
    """Pictures without one are drawn apart; where no cell is filled, pictures are drawn."""
    rows = [(f"photos/{f.parent.name}/{f.name}", f.parent.name) for f in photos.glob("*/*.jpg")]
    for table, group in (("some.csv", "g"), ("none.csv", "")):
        lines = [f"{path},{name},{group if i < 5 else ''}" for i, (path, name) in enumerate(rows)]
        (tmp_path / table).write_text("\n".join(["path,label,group", *lines]))
    scored = ("evaluate", "--no-report", "--json", "--data")
    report = json.loads(command(*scored, "some.csv").out)
    p = read_predictions(Path(report["folder"]))
    of = {path: "g" if i < 5 else path for i, (path, _) in enumerate(rows)}
    expected = bootstrap_intervals(p, groups=[of[key] for key in p.keys])
    low, high = report["intervals"]["accuracy"]
    assert (low, high) == pytest.approx(expected["accuracy"], abs=0.06)
    assert "bootstrap of groups" in report["intervals_method"]
    report = json.loads(command(*scored, "none.csv").out)
    assert report["intervals"]["accuracy"] == list(bootstrap_intervals(p)["accuracy"])
    assert "bootstrap of pictures" in report["intervals_method"]


def test_many_small_slices_have_no_intervals(monkeypatch):
    """The largest ones do: a thousand patients would take a thousand bootstraps."""
    monkeypatch.setattr(slices, "MOST_INTERVALS", 1)
    logits = np.random.default_rng(0).normal(size=(9, 3))
    p = Predictions(tuple("abcdefghi"), logits, np.arange(9) % 3)
    first, second = slice_metrics(p, ["x"] * 5 + ["y"] * 4, samples=100, seed=0)
    assert first.intervals
    assert second.intervals == {}
