"""An evaluated split as one page: what it says, in the order a reviewer asks for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from imgcls.metrics.predictions import Predictions
from imgcls.metrics.registry import find_metric
from imgcls.output.metric_names import metric_title, metric_writer
from imgcls.output.numbers import few_pictures, reach
from imgcls.output.pages.page import Section, Table, Thumbnail, format_cell, render_page
from imgcls.output.pages.tables import (
    class_table,
    comparison_tables,
    confusion_table,
    corruption_table,
    cost_table,
    difference_table,
    fold_table,
    row_table,
    slice_tables,
    threshold_table,
)
from imgcls.output.pages.unknown import unknown_sections
from imgcls.output.plots.drawing import Drawing
from imgcls.output.screens.trained_on import trained_on_in_words
from imgcls.results.comparison import TrainedOn

# browsers take half a minute to sort ten times as many
_MOST_ROWS = 2_000
_PRECISIONS = {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class RunFacts:
    """What the run says about itself; empty where it lies elsewhere.

    config: the text of config.yaml. counts: rows of class and pictures a split.
    findings: what the check of the data before training found. versions: of the libraries that
    trained it.
    """

    config: str = ""
    counts: Sequence[Mapping[str, Any]] = ()
    findings: Sequence[tuple[str, str]] = ()
    versions: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What is on disk of one evaluated split.

    report: test_metrics.json. per_class: rows of numbers or None. confusions: (true, predicted,
    pictures) of the commonest mistakes. history: rows of history.csv.
    """

    report: Mapping[str, Any]
    predictions: Predictions
    per_class: Sequence[Mapping[str, Any]]
    confusions: Sequence[tuple[int, int, int]]
    history: Sequence[Mapping[str, float | None]]
    run: RunFacts


def evaluation_page(
    evaluation: Evaluation,
    drawings: Mapping[str, Drawing],
    galleries: Sequence[tuple[str, str, Sequence[Thumbnail]]],
    notes: Sequence[str],
) -> str:
    """The page as HTML. drawings: by name; galleries: a title, a sentence and the pictures."""
    report = evaluation.report
    metrics = report["metrics"]

    support = [(row["class"], row["support"]) for row in evaluation.per_class]

    def drawn(*names: str) -> list[Drawing]:
        return [drawings[name] for name in names if name in drawings]

    sections = [
        Section(
            "Confusions",
            tables=_confused(evaluation),
            drawings=drawn("confusion_matrix", "confusion_matrix_normalized"),
        ),
        Section(
            "Classes",
            " ".join(filter(None, ("Click a column's title to sort.", few_pictures(support)))),
            tables=[_classes(evaluation.per_class)],
        ),
        Section("Pictures", galleries=galleries),
        Section("Curves", drawings=drawn("roc_curves", "pr_curves")),
        Section(
            "Calibration",
            facts=_calibration(report),
            drawings=drawn("reliability", "confidence"),
        ),
        *_further(report, dict(support)),
        Section("All metrics", facts=_metrics(metrics, report.get("undefined", {}))),
        Section("Training", drawings=drawn("training_curves")),
        Section("Data", facts=evaluation.run.findings, tables=_counts(evaluation.run.counts)),
        Section("Config", document=evaluation.run.config),
        Section("Provenance", facts=_provenance(evaluation)),
    ]
    data = PurePath(report["data"]["source"]).name
    count = f"{metrics['samples']:,} pictures of {data}, {metrics['num_classes']:,} classes"
    page = {
        "title": f"{report['model_name']} on {report['split']}",
        "subtitle": f"{count}, {_folds(report['fold'])}",
        "notes": [*report.get("notes", ()), *notes],
        "cards": [_card(report, name) for name in metrics if _is_card(name)],
        "sections": [section for section in sections if not section.is_empty],
    }
    return render_page("evaluation.html", page=page)


def _folds(fold: int | str) -> str:
    return "all folds" if fold == "all" else f"fold {fold}"


def _is_card(name: str) -> bool:
    metric = find_metric(name)
    return metric is not None and metric.card


def _card(report: Mapping[str, Any], name: str) -> tuple[str, str, str]:
    metrics = report["metrics"]
    written = metric_writer(name, metrics["samples"])
    detail = reach(report.get("intervals", {}).get(name), written)
    return metric_title(name), written(metrics[name]), detail and f"95% interval {detail}"


def _confused(evaluation: Evaluation) -> list[Table]:
    if not evaluation.confusions:
        return []
    support = [row["support"] for row in evaluation.per_class]
    return [confusion_table(evaluation.confusions, evaluation.report["class_names"], support)]


def _classes(rows: Sequence[Mapping[str, Any]]) -> Table:
    if len(rows) <= _MOST_ROWS:
        return class_table(rows)
    weakest = sorted(rows, key=lambda row: math.inf if row["f1"] is None else row["f1"])
    caption = f"The {_MOST_ROWS:,} weakest of {len(rows):,} classes; all are in per_class.csv"
    return class_table(weakest[:_MOST_ROWS], caption)


def _counts(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    some = f", the first {_MOST_ROWS:,} of {len(rows):,}" if len(rows) > _MOST_ROWS else ""
    return [row_table(rows[:_MOST_ROWS], f"Pictures of each class{some}")] if rows else []


def _members(ensemble: Mapping[str, Any]) -> str:
    if models := ensemble.get("models"):
        return f"Models {', '.join(models)}"
    return f"Folds {', '.join(map(str, ensemble['folds']))}"


def _further(report: Mapping[str, Any], support: Mapping[str, int]) -> Iterator[Section]:
    """What was asked for beyond the headline."""
    pictures = report["metrics"]["samples"]
    # earlier versions called them gates
    if thresholds := report.get("thresholds") or report.get("gates"):
        yield Section("Thresholds", tables=[threshold_table(thresholds)])
    if folds := report.get("cross_validation"):
        yield Section("Cross-validation", tables=[fold_table(folds, pictures)])
    if ensemble := report.get("ensemble"):
        caption = "The average (this) against the mean of its members (other)"
        yield Section(
            "Ensemble",
            f"{_members(ensemble)}; views of each picture: {ensemble['views']}.",
            tables=[difference_table(ensemble["gain"], caption, ensemble.get("samples", pictures))]
            if ensemble["gain"]
            else [],
        )
    if coverage := report.get("coverage"):
        answered = [row["pictures"] for row in coverage]
        text = "Accuracy when only the surest answers are taken (selective prediction)."
        yield Section("Decisions", text, tables=[row_table(coverage, pictures=answered)])
    if points := report.get("operating_points"):
        text = (
            "For each class against the rest, the threshold of the highest F1, where it beats the "
            "predicted class on pictures that it was not chosen by."
        )
        yield Section(
            "Operating points",
            text,
            tables=[row_table(points, pictures=[support[row["class"]] for row in points])],
        )
    yield from unknown_sections(report)
    if costs := report.get("costs"):
        yield Section("Costs", tables=[cost_table(costs)])
    if slices := report.get("slices"):
        yield Section("Slices", tables=slice_tables(slices))
    if comparison := report.get("comparison"):
        yield Section("Comparison", tables=comparison_tables(comparison, pictures))
    if corruptions := report.get("corruptions"):
        yield Section("Corruptions", tables=[corruption_table(corruptions, pictures)])


def _metrics(metrics: Mapping[str, Any], undefined: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        (
            metric_title(name),
            undefined.get(name, "undefined")
            if value is None
            else format_cell(value, "count")
            if isinstance(value, int)
            else metric_writer(name, metrics["samples"])(value),
        )
        for name, value in metrics.items()
    ]


def _calibration(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = report.get("calibration")
    if not found:
        return []
    fitted = f"fitted on {found['samples']:,} pictures of {found['fitted_on']}"
    rows = [("Temperature", f"{found['temperature']:.4f}, {fitted}")]
    for name, before in found["before"].items():
        if isinstance(before, float):
            rows.append(
                (metric_title(name), f"{before:.4f} before, {found['after'][name]:.4f} after")
            )
    return rows


def _data(origin: Mapping[str, Any]) -> str:
    """Where the pictures are, and what was asked for when they were opened."""
    asked = (f"{name.replace('_', ' ')} {value}" for name, value in origin.items())
    return ", ".join([str(origin["source"]), *list(asked)[1:]])


def _provenance(evaluation: Evaluation) -> list[tuple[str, str]]:
    report = evaluation.report
    speed, seen = report["speed_metrics"], report.get("trained_on")
    rows = [
        ("Checkpoint", report["checkpoint"]),
        ("Data", _data(report["data"])),
        ("Trained on", trained_on_in_words(TrainedOn(**seen)) if seen else ""),
        ("Intervals", report.get("intervals_method") or ""),
        ("Speed", f"{speed['throughput_samples_per_sec']:,.0f} images/s without loading"),
        ("Device", f"{speed['device']}, {_PRECISIONS[speed['precision']]}"),
        ("Trained with", ", ".join(f"{n} {v}" for n, v in evaluation.run.versions.items())),
    ]
    return [(name, text) for name, text in rows if text]
