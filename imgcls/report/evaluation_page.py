"""An evaluated split as one page: what it says, in the order a reviewer asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from imgcls.metrics.predictions import Predictions
from imgcls.report.html.page import Column, Kind, Table, Thumbnail, format_cell, render_page
from imgcls.report.plots.drawing import Drawing

_CARDS: tuple[tuple[str, str, Kind], ...] = (
    ("accuracy", "Accuracy", "percent"),
    ("balanced_accuracy", "Balanced accuracy", "percent"),
    ("f1_macro", "F1, macro", "percent"),
    ("roc_auc_macro", "ROC AUC, macro", "score"),
    ("average_precision_macro", "Average precision, macro", "score"),
    ("ece", "Calibration error", "percent"),
)
_MEANINGS = {
    "support": "pictures of the class in this split",
    "predicted": "pictures that were said to be of the class",
    "precision": "share of the predicted pictures that are of the class",
    "recall": "share of the class's pictures that were found",
    "f1": "harmonic mean of precision and recall",
    "roc_auc": "one-vs-rest area under the ROC curve",
    "average_precision": "one-vs-rest area under the precision-recall curve",
}
_PERCENTS = ("accuracy", "precision", "recall", "f1", "coverage", "ece", "share", "drop")
_PRECISIONS = {"off": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Section:
    """One part of the page; whatever it has is shown in the order of the fields."""

    title: str
    text: str = ""
    facts: Sequence[tuple[str, str]] = ()
    tables: Sequence[Table] = ()
    drawings: Sequence[Drawing] = ()
    galleries: Sequence[tuple[str, str, Sequence[Thumbnail]]] = ()
    document: str = ""

    @property
    def anchor(self) -> str:
        """The section's name in a link."""
        return self.title.lower().replace(" ", "-")

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to show but the title."""
        return not any((self.drawings, self.facts, self.tables, self.galleries, self.document))


@dataclass(frozen=True)
class RunFacts:
    """What the run says about itself; empty where it lies elsewhere.

    config: the text of config.yaml. counts: rows of class and pictures a split.
    findings: rows of its data audit. versions: of the libraries that trained it.
    """

    config: str = ""
    counts: Sequence[Mapping[str, Any]] = ()
    findings: Sequence[Mapping[str, Any]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What is on disk of one evaluated split.

    facts: test_metrics.json. per_class: rows of numbers or None. confusions: (true, predicted,
    pictures) of the commonest mistakes. history: rows of history.csv.
    """

    facts: Mapping[str, Any]
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
    facts = evaluation.facts
    metrics = facts["metrics"]

    def drawn(*names: str) -> list[Drawing]:
        return [drawings[name] for name in names if name in drawings]

    sections = [
        Section(
            "Confusions",
            tables=_confusions(evaluation),
            drawings=drawn("confusion_matrix", "confusion_matrix_normalized"),
        ),
        Section(
            "Classes", "Click a column's title to sort.", tables=[_table(evaluation.per_class)]
        ),
        Section("Pictures", galleries=galleries),
        Section("Curves", drawings=drawn("roc_curves", "pr_curves")),
        Section(
            "Calibration",
            facts=_calibration(facts),
            drawings=drawn("reliability", "confidence"),
        ),
        *(
            Section(title, text, tables=_tables(facts.get(key)))
            for key, title, text in (
                ("coverage", "Decisions", "Accuracy when only the surest answers are taken."),
                ("operating_points", "Operating points", "A threshold of its own for each class."),
                ("costs", "Costs", "What mistakes cost, and the decision that costs least."),
                ("slices", "Slices", "The same metrics, value by value."),
                ("comparison", "Comparison", "Against another model on the same pictures."),
                ("corruptions", "Corruptions", "How the scores fall as pictures get worse."),
                ("ensemble", "Ensemble", "The folds' models taken together."),
            )
        ),
        Section("All metrics", facts=_metrics(metrics, facts.get("undefined", {}))),
        Section("Training", drawings=drawn("training_curves")),
        Section("Data", tables=_tables(evaluation.run.counts) + _tables(evaluation.run.findings)),
        Section("Config", document=evaluation.run.config),
        Section("Provenance", facts=_provenance(evaluation)),
    ]
    data = PurePath(facts["data"]["source"]).name
    count = f"{metrics['samples']:,} pictures of {data}, {metrics['num_classes']:,} classes"
    page = {
        "title": f"{facts['model_name']} on {facts['split']}",
        "subtitle": f"{count}, fold {facts['fold']}",
        "notes": [*facts.get("notes", ()), *notes],
        "cards": [_card(metrics, facts.get("intervals", {}), *card) for card in _CARDS],
        "sections": [section for section in sections if not section.is_empty],
    }
    return render_page("evaluation.html", page=page)


def _card(
    metrics: Mapping[str, Any],
    intervals: Mapping[str, Sequence[float]],
    key: str,
    name: str,
    kind: Kind,
) -> tuple[str, str, str]:
    interval = intervals.get(key)
    detail = "" if interval is None else " to ".join(format_cell(end, kind) for end in interval)
    return name, format_cell(metrics[key], kind), detail and f"95% interval {detail}"


def _confusions(evaluation: Evaluation) -> list[Table]:
    names = evaluation.facts["class_names"]
    support = [row["support"] for row in evaluation.per_class]
    rows = [
        (names[true], names[predicted], count, count / support[true])
        for true, predicted, count in evaluation.confusions
    ]
    columns = [
        Column("True class"),
        Column("Taken for"),
        Column("Pictures", "count"),
        Column("Of the class", "percent", "share of the true class's pictures"),
    ]
    return [Table(columns, rows, "The most confused pairs")] if rows else []


def _tables(value: Any, caption: str = "") -> list[Table]:
    """Tables of rows, of rows by name, or of facts, whatever the value holds."""
    if not value:
        return []
    if not isinstance(value, Mapping):
        return [_table(value, caption)]
    inner = {key: item for key, item in value.items() if isinstance(item, Mapping) and item}
    if len(inner) == len(value):
        rows = [{"": key, **item} for key, item in inner.items()]
        if all(_is_plain(cell) for row in rows for cell in row.values()):
            return [_table(rows, caption)]
    plain = [(_title(key), _plain(item)) for key, item in value.items() if _is_plain(item)]
    tables = [Table([Column("What"), Column("Value")], plain, caption)] if plain else []
    for key, item in value.items():
        if not _is_plain(item):
            tables += _tables(item, _title(key))
    return tables


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(item) for item in value)
    return not isinstance(value, Mapping)


def _plain(value: Any) -> Any:
    """A value that is not one of a column: a number of a few digits, a range, words."""
    if isinstance(value, (list, tuple)):
        return ", ".join(str(_plain(item)) for item in value)
    return f"{value:.4f}" if isinstance(value, float) else value


def _table(rows: Sequence[Mapping[str, Any]], caption: str = "") -> Table:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = {key: [row.get(key) for row in rows] for key in keys}
    kinds = {key: _kind(key, cells) for key, cells in columns.items()}
    return Table(
        [Column(_title(key), kinds[key], _MEANINGS.get(key, "")) for key in keys],
        [
            [_plain(row.get(key)) if kinds[key] == "text" else row.get(key) for key in keys]
            for row in rows
        ],
        caption,
    )


def _title(key: str) -> str:
    words = {"f1": "F1", "roc": "ROC", "auc": "AUC", "ece": "ECE", "nll": "NLL", "mcc": "MCC"}
    text = " ".join(words.get(word, word) for word in key.split("_"))
    return text[:1].upper() + text[1:]


def _kind(key: str, values: Sequence[Any]) -> Kind:
    known = [value for value in values if value is not None]
    if not all(isinstance(value, (int, float)) for value in known):
        return "text"
    if known and all(isinstance(value, int) for value in known):
        return "count"
    return "percent" if any(word in key for word in _PERCENTS) and "average" not in key else "score"


def _metrics(metrics: Mapping[str, Any], undefined: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        (
            _title(name),
            undefined.get(name, "undefined")
            if value is None
            else format_cell(value, "count" if isinstance(value, int) else "score"),
        )
        for name, value in metrics.items()
    ]


def _calibration(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = facts.get("calibration")
    if not found:
        return []
    fitted = f"fitted on {found['samples']:,} pictures of {found['fitted_on']}"
    rows = [("Temperature", f"{found['temperature']:.4f}, {fitted}")]
    for name, before in found["before"].items():
        if isinstance(before, float):
            rows.append((_title(name), f"{before:.4f} before, {found['after'][name]:.4f} after"))
    return rows


def _provenance(evaluation: Evaluation) -> list[tuple[str, str]]:
    facts = evaluation.facts
    speed = facts["speed_metrics"]
    rows = [
        ("Checkpoint", facts["checkpoint"]),
        ("Data", ", ".join(map(str, facts["data"].values()))),
        ("Intervals", facts.get("intervals_method") or ""),
        ("Speed", f"{speed['throughput_samples_per_sec']:,.0f} images/s without loading"),
        ("Device", f"{speed['device']}, {_PRECISIONS[speed['precision']]}"),
        ("Trained with", ", ".join(f"{n} {v}" for n, v in evaluation.run.versions.items())),
    ]
    return [(name, text) for name, text in rows if text]
