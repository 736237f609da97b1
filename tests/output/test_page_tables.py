"""Tables of an evaluation's page: every number in its cell, in the form that suits it."""

from __future__ import annotations

import pytest

from imgcls.output.metric_names import metric_title
from imgcls.output.pages.page import format_cell
from imgcls.output.pages.tables import (
    class_table,
    comparison_tables,
    corruption_table,
    cost_table,
    fold_table,
    slice_tables,
    threshold_table,
)


def shown(table):
    """The titles, and the cells as they read."""
    kinds = [column.kind for column in table.columns]
    cells = [[format_cell(v, k) for v, k in zip(row, kinds, strict=True)] for row in table.rows]
    return [column.title for column in table.columns], cells


@pytest.mark.parametrize(
    ("name", "title"),
    [("roc_auc_macro", "ROC AUC (macro)"), ("f1", "F1"), ("top_3_accuracy", "Top 3 accuracy")],
)
def test_names_read_as_words(name, title):
    """Abbreviations keep their capitals."""
    assert metric_title(name) == title


def test_rows_keep_their_columns():
    """Counts, percents, scores and what is undefined."""
    row = {"class": "a", "support": 1200, "recall": 0.5, "precision": None, "roc_auc": 0.75}
    assert shown(class_table([row])) == (
        ["Class", "Support", "Recall", "Precision", "ROC AUC"],
        [["a", "1,200", "50.00%", "-", "0.7500"]],
    )


def test_costs_of_both_decisions():
    """Mean and interval of each, and what is saved."""
    costs = {
        "file": "costs.csv",
        "changed": 3,
        "predicted": {"mean": 1.5, "interval": [1.0, 2.0]},
        "least_cost": {"mean": 1.25, "interval": None},
        "saved": {"mean": 0.25, "interval": None},
    }
    table = cost_table(costs)
    assert "3 decisions" in table.caption
    assert shown(table)[1] == [
        ["The predicted class", "1.5000", "1.0000 to 2.0000"],
        ["The decision that costs least", "1.2500", ""],
        ["Saved", "0.2500", ""],
    ]


def test_slices_value_by_value():
    """One table a column; an empty cell has a name."""
    metrics = {"balanced_accuracy": 0.5, "nll": 1.0}
    rows = [
        {"value": "north", "samples": 5, "metrics": metrics,
         "intervals": {"balanced_accuracy": [0.25, 0.75]}},
        {"value": "", "samples": 2, "metrics": metrics, "intervals": {}},
    ]  # fmt: skip
    [table] = slice_tables({"site": rows})
    titles, cells = shown(table)
    assert titles[:4] == ["site", "Pictures", "Balanced accuracy", "NLL (log loss)"]
    assert cells == [
        ["north", "5", "50%", "1.0000", "25% to 75%"],
        ["(empty)", "2", "50%", "1.0000", ""],
    ]


def test_a_comparison_tells_metrics_classes_and_pictures():
    """The parts that are there, with McNemar's test above."""
    found = {
        "checkpoint": "other/best",
        "metrics": {"accuracy": {"this": 0.5, "other": 0.25, "difference": 0.25,
                                 "interval": [0.1, 0.4]}},
        "mcnemar": {"only_this_right": 7, "only_other_right": 2, "p_value": 0.18},
        "per_class": [{"class": "a", "support": 4, "this": 1.0, "other": 0.5, "difference": 0.5}],
        "changed": [{"path": "a/1.png", "label": "a", "this": "a", "other": "b",
                     "now_right": True}],
    }  # fmt: skip
    metrics, classes, pictures = comparison_tables(found, 200)
    assert "right only here 7, right only there 2, McNemar's exact p = 0.18" in metrics.caption
    assert shown(metrics)[1] == [["Accuracy", "50.0%", "25.0%", "25.0%", "10.0% to 40.0%"]]
    assert shown(classes)[1] == [["a", "4", "100%", "50%", "50%"]]
    assert shown(pictures)[1] == [["a/1.png", "a", "a", "b", "right"]]
    assert len(comparison_tables({**found, "per_class": [], "changed": []}, 200)) == 1


def test_corruptions_by_severity():
    """Each severity, the mean, the drop, and all of them together."""
    one = {"accuracy": 0.5}
    found = {
        "clean": {"accuracy": 0.75},
        "by_corruption": [
            {"corruption": "gaussian_blur", "severities": [one, one], "mean": one,
             "drop": {"accuracy": 0.25}}
        ],
        "mean": one,
        "drop": {"accuracy": 0.25},
    }  # fmt: skip
    table = corruption_table(found, 40)
    assert "75% when clean" in table.caption
    assert shown(table)[1] == [
        ["Gaussian blur", "50%", "50%", "50%", "25%"],
        ["All", "-", "-", "50%", "25%"],
    ]


def test_folds_and_thresholds():
    """Mean and spread; reached or missed."""
    folds = {
        "folds": 3, "splitter": "KFold", "mean": {"accuracy": 0.5, "nll": None},
        "std": {"accuracy": 0.1, "nll": None}, "interval": {"accuracy": [0.4, 0.6]},
    }  # fmt: skip
    assert shown(fold_table(folds, 40))[1] == [
        ["Accuracy", "50%", "10%", "40% to 60%"],
        ["NLL (log loss)", "-", "-", ""],
    ]
    thresholds = {"accuracy": {"value": 0.5, "at_least": 0.6, "passed": False}}
    assert shown(threshold_table(thresholds))[1] == [["Accuracy", "0.5000", "0.6000", "missed"]]
