"""The tables of an evaluation's page, from what test_metrics.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgcls.report.html.page import Column, Kind, Table, format_cell

_MEANINGS = {
    "support": "pictures of the class in this split",
    "predicted": "pictures that were said to be of the class",
    "precision": "share of the predicted pictures that are of the class",
    "recall": "share of the class's pictures that were found",
    "f1": "harmonic mean of precision and recall",
    "roc_auc": "one-vs-rest area under the ROC curve",
    "average_precision": "one-vs-rest area under the precision-recall curve",
    "wanted": "share of the pictures to be answered",
    "coverage": "share of the pictures that are answered at this threshold",
    "threshold": "the lowest confidence that counts",
    "held_out_f1": "of thresholds on pictures that they were not chosen by",
    "predicted_f1": "of the predicted class, without a threshold",
}
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("class", "path", "label", "reason"), "text"),
    **dict.fromkeys(
        ("support", "predicted", "pictures", "train", "val", "test", "left out"), "count"
    ),
    **dict.fromkeys(("precision", "recall", "f1", "accuracy", "coverage", "wanted"), "percent"),
    **dict.fromkeys(("held_out_f1", "predicted_f1"), "percent"),
}
_WORDS = {"f1": "F1", "roc": "ROC", "auc": "AUC", "ece": "ECE", "nll": "NLL", "mcc": "MCC"}


def metric_title(name: str) -> str:
    """The name of a metric or column as it reads: `roc_auc_macro` is "ROC AUC macro"."""
    text = " ".join(_WORDS.get(word, word) for word in name.split("_"))
    return text[:1].upper() + text[1:]


def reach(interval: Sequence[float] | None, kind: Kind) -> str:
    """An interval as it reads, "" where there is none."""
    return "" if interval is None else " to ".join(format_cell(end, kind) for end in interval)


def row_table(rows: Sequence[Mapping[str, Any]], caption: str = "") -> Table:
    """Rows by column name, e.g. those of per_class.csv or the coverage table."""
    names = list(rows[0])
    columns = [Column(metric_title(name), _kind(name), _MEANINGS.get(name, "")) for name in names]
    return Table(columns, [[row[name] for name in names] for row in rows], caption)


def _kind(name: str) -> Kind:
    return "count" if name.startswith("fold ") else _KINDS.get(name, "score")


def confusion_table(
    pairs: Sequence[tuple[int, int, int]], names: Sequence[str], support: Sequence[int]
) -> Table:
    """(true, predicted, pictures) of the commonest mistakes."""
    columns = (
        Column("True class"),
        Column("Taken for"),
        Column("Pictures", "count"),
        Column("Of the class", "percent", "share of the true class's pictures"),
    )
    rows = [(names[true], names[said], n, n / support[true]) for true, said, n in pairs]
    return Table(columns, rows, "The most confused pairs")


def cost_table(costs: Mapping[str, Any]) -> Table:
    """Mean cost a picture of the predicted class and of the decision that costs least."""
    rows = [
        (title, costs[key]["mean"], reach(costs[key]["interval"], "score"))
        for key, title in (
            ("predicted", "The predicted class"),
            ("least_cost", "The decision that costs least"),
            ("saved", "Saved"),
        )
    ]
    caption = f"By {costs['file']}; {costs['changed']:,} decisions differ from the prediction."
    columns = (Column("Decision"), Column("Mean cost", "score"), Column("95% interval"))
    return Table(columns, rows, caption)


def slice_tables(slices: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Table]:
    """One table a column of the data, one row a value."""
    tables = []
    for column, rows in slices.items():
        names = list(rows[0]["metrics"])
        columns = (
            Column(column),
            Column("Pictures", "count"),
            *(Column(metric_title(n), "percent" if _is_share(n) else "score") for n in names),
            Column("95% interval of balanced accuracy"),
        )
        cells = [
            (
                row["value"] or "(empty)",
                row["samples"],
                *(row["metrics"][name] for name in names),
                reach(row["intervals"].get("balanced_accuracy"), "percent"),
            )
            for row in rows
        ]
        tables.append(Table(columns, cells, f"By {column}"))
    return tables


def comparison_tables(found: Mapping[str, Any]) -> list[Table]:
    """Metrics side by side, McNemar's test, classes and pictures that changed."""
    test = found["mcnemar"]
    caption = (
        f"Against {found['checkpoint']}: right only here {test['only_this_right']:,}, right only "
        f"there {test['only_other_right']:,}, McNemar's exact p = {test['p_value']:.3g}"
    )
    tables = [difference_table(found["metrics"], caption)]
    if found["per_class"]:
        columns = (
            Column("Class"),
            Column("Pictures", "count"),
            *(Column(title, "percent") for title in ("This", "Other", "Change")),
        )
        keys = ("class", "support", "this", "other", "difference")
        cells = [[row[key] for key in keys] for row in found["per_class"]]
        tables.append(Table(columns, cells, "Recall of each class"))
    if found["changed"]:
        columns = tuple(map(Column, ("Picture", "True class", "This", "Other", "Now")))
        rows = [
            (*(row[k] for k in ("path", "label", "this", "other")), _verdict(row["now_right"]))
            for row in found["changed"]
        ]
        tables.append(Table(columns, rows, "Pictures that changed sides"))
    return tables


def difference_table(metrics: Mapping[str, Mapping[str, Any]], caption: str) -> Table:
    """{metric: this, other, difference, interval} as rows."""
    columns = (
        Column("Metric"),
        *(Column(title, "score") for title in ("This", "Other", "Difference")),
        Column("95% interval of the difference"),
    )
    rows = [
        (
            metric_title(name),
            *(row[key] for key in ("this", "other", "difference")),
            reach(row["interval"], "score"),
        )
        for name, row in metrics.items()
    ]
    return Table(columns, rows, caption)


def corruption_table(found: Mapping[str, Any]) -> Table:
    """Accuracy by corruption and severity, its mean and its drop."""
    severities = len(found["by_corruption"][0]["severities"])
    columns = (
        Column("Corruption"),
        *(Column(f"Severity {number}", "percent") for number in range(1, severities + 1)),
        Column("Mean", "percent"),
        Column("Drop", "percent", "clean accuracy less the mean"),
    )
    rows = [
        (
            metric_title(row["corruption"]),
            *(severity["accuracy"] for severity in row["severities"]),
            row["mean"]["accuracy"],
            row["drop"]["accuracy"],
        )
        for row in found["by_corruption"]
    ]
    overall = (found["mean"]["accuracy"], found["drop"]["accuracy"])
    rows.append(("All", *[None] * severities, *overall))
    return Table(columns, rows, f"Accuracy; {found['clean']['accuracy']:.2%} when clean")


def fold_table(found: Mapping[str, Any]) -> Table:
    """Mean, standard deviation and interval over the folds."""
    columns = (
        Column("Metric"),
        Column("Mean", "score"),
        Column("Standard deviation", "score"),
        Column("95% interval of the mean"),
    )
    rows = [
        (metric_title(name), mean, found["std"][name], reach(found["interval"].get(name), "score"))
        for name, mean in found["mean"].items()
    ]
    return Table(columns, rows, f"Over {found['folds']} folds, {found['splitter']}")


def gate_table(gates: Mapping[str, Mapping[str, Any]]) -> Table:
    """What `--fail-under` asked for."""
    columns = (
        Column("Metric"),
        Column("Value", "score"),
        Column("At least", "score"),
        Column("Gate"),
    )
    rows = [
        (metric_title(n), g["value"], g["at_least"], "reached" if g["passed"] else "missed")
        for n, g in gates.items()
    ]
    return Table(columns, rows)


def _is_share(name: str) -> bool:
    return name.endswith("accuracy") or name.startswith("f1")


def _verdict(now_right: bool) -> str:
    return "right" if now_right else "wrong"
