"""A metric is declared once: whatever computes, shows or compares metrics has it from there."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
from random_predictions import some_predictions

from imgcls.config.run import Monitor
from imgcls.engine.training.selection.trackers import MetricTracker
from imgcls.metrics import registry
from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.intervals import bootstrap_intervals
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.registry import MONITORS, VALIDATION, Metric, ValidationMetric, find_metric
from imgcls.output.screens.epoch_table import EpochTable
from imgcls.storage.tables import HISTORY_COLUMNS

# the mean of squared recalls: no metric that anybody has
SQUARES = Metric(
    name="squared_recall",
    title="Recall squared",
    from_counts=lambda counts: counts.macro(counts.recall**2),
    limits=(0.0, 0.99),
    share=True,
    headline=12,
    card=True,
    compared=True,
    sliced=True,
)


@pytest.fixture
def squares(monkeypatch):
    """The metrics with one more, declared as all others are."""
    monkeypatch.setattr(registry, "_OF_SCORES", (*registry._OF_SCORES, SQUARES))


def test_a_declared_metric_reaches_all_that_read_metrics(squares, command, trained, tmp_path):
    """The files, the screen, the page, --fail-under, --compare, --by and the mean over folds."""
    for name in ("single", "folds"):
        shutil.copytree(trained / "outputs" / name, tmp_path / "outputs" / name, symlinks=True)
    table = [f"{path},{path.parent.name},{path.stem[-1]}" for path in _pictures(trained)]
    (tmp_path / "table.csv").write_text("\n".join(["path,label,digit", *table]))
    done = command(
        "evaluate", "outputs/single", "--data", "table.csv", "--compare", "outputs/single",
        "--by", "digit", "--fail-under", "squared_recall=0.0001", "--ci-samples", "100",
    )  # fmt: skip
    assert done.code in (0, 1), done.err
    folder = next((tmp_path / "outputs/single").rglob("test_metrics.json")).parent
    found = json.loads((folder / "test_metrics.json").read_text())
    recalls = [row["recall"] for row in _rows(folder / "per_class.csv")]
    value = found["metrics"]["squared_recall"]
    assert value == pytest.approx(np.mean(np.square(recalls)))
    assert found["thresholds"]["squared_recall"]["value"] == value
    assert found["comparison"]["metrics"]["squared_recall"]["this"] == pytest.approx(value)
    assert all("squared_recall" in row["metrics"] for row in found["slices"]["digit"])
    assert done.out.count("Recall squared") == 2  # the headline and the comparison
    page = (folder / "report.html").read_text()
    # a card, a row of all metrics, and in the tables of thresholds, slices and the comparison
    assert page.count("Recall squared") == 5
    folds = json.loads(
        command("evaluate", "outputs/folds", "--fold", "all", "--no-report", "--json").out
    )
    across = folds["cross_validation"]
    assert across["mean"]["squared_recall"] == pytest.approx(
        np.mean([fold["squared_recall"] for fold in across["per_fold"]])
    )


def test_a_declared_metric_has_an_interval(squares):
    """Within the limits that it is declared with."""
    p = some_predictions(200, 3)
    value = MetricsCalculator("abc").compute(p).metrics["squared_recall"]
    low, high = bootstrap_intervals(p, 200)["squared_recall"]
    assert low < value < high
    logits = np.where(np.arange(200)[:, None] < 190, np.eye(3)[p.labels], p.logits)
    nearly_right = Predictions(p.keys, logits, p.labels)
    assert bootstrap_intervals(nearly_right, 200)["squared_recall"][1] == 0.99


def _pictures(trained):
    return sorted((trained / "photos").rglob("*.jpg"))


def _rows(file):
    lines = [line.split(",") for line in file.read_text().splitlines()]
    return [dict(zip(lines[0], map(_number, line), strict=True)) for line in lines[1:]]


def _number(cell):
    try:
        return float(cell)
    except ValueError:
        return cell


def test_a_declared_column_is_an_option_a_cell_and_a_direction(monkeypatch):
    """--eval-metric, history.csv and the table of epochs know the columns; a loss wants to fall."""
    assert get_args(Monitor) == MONITORS
    assert set(MONITORS) <= set(HISTORY_COLUMNS)
    for name in MONITORS:
        assert name not in EpochTable(name, calibrates=True).header()  # each has a short title
    brier = ValidationMetric(name="val_brier", of="brier", title="Brier")
    monkeypatch.setattr(registry, "VALIDATION", (*VALIDATION, brier))
    assert MetricTracker("val_brier").mode == "min"
    assert MetricTracker("val_macro_f1").mode == "max"


def test_a_metric_is_found_by_its_name():
    """top_k_accuracy for any k; others only as they are declared."""
    assert find_metric("top_7_accuracy").more_classes_than == 7
    assert find_metric("top_0_accuracy") is None
    assert find_metric("no_metric") is None


def test_the_names_of_metrics_load_no_numpy():
    """--help reads them."""
    code = "import sys, imgcls.metrics.registry; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
