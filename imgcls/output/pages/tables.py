"""The tables of an evaluation's page, from what test_metrics.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imgcls.output.metric_names import is_share, metric_title, metric_writer
from imgcls.output.numbers import Share, percent, reach, score
from imgcls.output.pages.page import Column, Kind, Table

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


def row_table(
    rows: Sequence[Mapping[str, Any]], caption: str = "", pictures: Sequence[int] = ()
) -> Table:
    """Rows by column name, e.g. those of per_class.csv or the coverage table.

    pictures: how many each row's percents are of, where no row has any.
    """
    names = list(rows[0])
    columns = [Column(metric_title(name), _kind(name), _MEANINGS.get(name, "")) for name in names]
    cells = [
        [Share(row[name], count) if _kind(name) == "percent" else row[name] for name in names]
        for row, count in zip(rows, pictures or [0] * len(rows), strict=True)
    ]
    return Table(columns, cells, caption)


def class_table(rows: Sequence[Mapping[str, Any]], caption: str = "") -> Table:
    """The rows of per_class.csv, each with as many digits as its pictures carry."""
    return row_table(rows, caption, [row["support"] for row in rows])


def _cell(name: str, value: float | None, pictures: int) -> Share | float | None:
    return Share(value, pictures) if is_share(name) else value


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
    rows = [
        (names[true], names[said], n, Share(n / support[true], support[true]))
        for true, said, n in pairs
    ]
    return Table(columns, rows, "The most confused pairs")


def cost_table(costs: Mapping[str, Any]) -> Table:
    """Mean cost a picture of the predicted class and of the decision that costs least."""
    rows = [
        (title, costs[key]["mean"], reach(costs[key]["interval"], score))
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
            *(Column(metric_title(n), "percent" if is_share(n) else "score") for n in names),
            Column("95% interval of balanced accuracy"),
        )
        cells = [
            (
                row["value"] or "(empty)",
                row["samples"],
                *(_cell(name, row["metrics"][name], row["samples"]) for name in names),
                reach(
                    row["intervals"].get("balanced_accuracy"),
                    metric_writer("balanced_accuracy", row["samples"]),
                ),
            )
            for row in rows
        ]
        tables.append(Table(columns, cells, f"By {column}"))
    return tables


def comparison_tables(found: Mapping[str, Any], pictures: int) -> list[Table]:
    """Metrics side by side, McNemar's test, classes and pictures that changed."""
    test = found["mcnemar"]
    caption = (
        f"Against {found['checkpoint']}: right only here {test['only_this_right']:,}, right only "
        f"there {test['only_other_right']:,}, McNemar's exact p = {test['p_value']:.3g}"
    )
    tables = [difference_table(found["metrics"], caption, pictures)]
    if found["per_class"]:
        columns = (
            Column("Class"),
            Column("Pictures", "count"),
            *(Column(title, "percent") for title in ("This", "Other", "Change")),
        )
        sides = ("this", "other", "difference")
        cells = [
            [row["class"], row["support"], *(Share(row[side], row["support"]) for side in sides)]
            for row in found["per_class"]
        ]
        tables.append(Table(columns, cells, "Recall of each class"))
    if found["changed"]:
        columns = tuple(map(Column, ("Picture", "True class", "This", "Other", "Now")))
        rows = [
            (*(row[k] for k in ("path", "label", "this", "other")), _verdict(row["now_right"]))
            for row in found["changed"]
        ]
        tables.append(Table(columns, rows, "Pictures that changed sides"))
    return tables


def difference_table(
    metrics: Mapping[str, Mapping[str, Any]], caption: str, pictures: int
) -> Table:
    """{metric: this, other, difference, interval} as rows."""
    columns = (
        Column("Metric"),
        *(Column(title, "score") for title in ("This", "Other", "Difference")),
        Column("95% interval of the difference"),
    )
    rows = [
        (
            metric_title(name),
            *(_cell(name, row[key], pictures) for key in ("this", "other", "difference")),
            reach(row["interval"], metric_writer(name, pictures)),
        )
        for name, row in metrics.items()
    ]
    return Table(columns, rows, caption)


def corruption_table(found: Mapping[str, Any], pictures: int) -> Table:
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
            *(Share(severity["accuracy"], pictures) for severity in row["severities"]),
            *(Share(row[name]["accuracy"], pictures) for name in ("mean", "drop")),
        )
        for row in found["by_corruption"]
    ]
    overall = (Share(found[name]["accuracy"], pictures) for name in ("mean", "drop"))
    rows.append(("All", *[None] * severities, *overall))
    clean = percent(found["clean"]["accuracy"], pictures)
    return Table(columns, rows, f"Accuracy; {clean} when clean")


def fold_table(found: Mapping[str, Any], pictures: int) -> Table:
    """Mean, standard deviation and interval over the folds."""
    columns = (
        Column("Metric"),
        Column("Mean", "score"),
        Column("Standard deviation", "score"),
        Column("95% interval of the mean"),
    )
    rows = [
        (
            metric_title(name),
            *(_cell(name, value, pictures) for value in (mean, found["std"][name])),
            reach(found["interval"].get(name), metric_writer(name, pictures)),
        )
        for name, mean in found["mean"].items()
    ]
    return Table(columns, rows, f"Over {found['folds']} folds, {found['splitter']}")


def threshold_table(thresholds: Mapping[str, Mapping[str, Any]]) -> Table:
    """What `--fail-under` asked for."""
    columns = (
        Column("Metric"),
        Column("Value", "score"),
        Column("At least", "score"),
        Column("Threshold"),
    )
    rows = [
        (metric_title(n), t["value"], t["at_least"], "reached" if t["passed"] else "missed")
        for n, t in thresholds.items()
    ]
    return Table(columns, rows)


def _verdict(now_right: bool) -> str:
    return "right" if now_right else "wrong"
