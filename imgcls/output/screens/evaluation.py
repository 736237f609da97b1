"""An evaluation as a screen of 80 columns."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from imgcls.config.imbalance import IMBALANCE_METHODS
from imgcls.output.console import Console
from imgcls.output.metric_names import headline_names, metric_title, metric_writer
from imgcls.output.numbers import (
    MISSING,
    few_pictures,
    percent,
    pictures_and_classes,
    reach,
    score,
)
from imgcls.output.screens.evaluation_tables import further_tables
from imgcls.output.screens.screen import facts_table, panel
from imgcls.output.screens.trained_on import trained_on_in_words
from imgcls.results.evaluation import EvalReport
from imgcls.storage.pointers import CHECKPOINTS

_MOST_CLASSES = 12
_WORST_CLASSES = 5
_SHOWN_COVERAGES = (0.9, 0.8)


def show_evaluation(console: Console, report: EvalReport) -> None:
    """The headline numbers, the weakest classes, the commonest confusions, the files."""
    metrics = report.metrics
    size = pictures_and_classes(metrics["samples"], metrics["num_classes"])
    title = f"{report.model_name} on {report.split}: {size}"
    screen = panel(title, Group(_headline(report), "", _facts(report)))
    console.result(
        report, screen, _weakest_classes(report), _confusions(report), *further_tables(report), ""
    )
    if report.folder is not None:
        console.path("Files", str(report.folder))
    if report.page is not None:
        console.path("Report", str(report.page))
    console.path("Next", _next(report))
    for note in report.notes:
        console.warn(note)


def _next(report: EvalReport) -> str:
    """The command that goes on: to the test split, then to how fast the model is."""
    if report.cross_validation is not None:
        # the folds are of one architecture, so one of them tells the speed of all
        fold = report.cross_validation.per_fold[0]["fold"]
        return f"imgcls benchmark {shlex.quote(str(report.checkpoint / f'fold_{fold}'))}"
    if report.split in ("train", "val"):
        return f"imgcls evaluate {shlex.quote(str(report.checkpoint))} --split test"
    parent = report.checkpoint.parent
    model = parent.parent if parent.name == CHECKPOINTS else report.checkpoint
    return f"imgcls benchmark {shlex.quote(str(model))}"


def _headline(report: EvalReport) -> RenderableType:
    metrics, table = report.metrics, Table(box=None, pad_edge=False)
    table.add_column("", style="bold", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    if report.intervals:
        table.add_column("95% interval", justify="right", no_wrap=True)
    for name in headline_names(report.metrics):
        written = metric_writer(name, metrics["samples"])
        cells = [metric_title(name), written(metrics[name])]
        if report.intervals:
            cells.append(reach(report.intervals.get(name), written) or MISSING)
        table.add_row(*cells)
    return table


def _facts(report: EvalReport) -> RenderableType:
    metrics, facts = report.metrics, facts_table()
    count = metrics["samples"]
    facts.add_row(
        "Weighted",
        f"precision {percent(metrics['precision_weighted'], count)}, "
        f"recall {percent(metrics['recall_weighted'], count)}, "
        f"F1 {percent(metrics['f1_weighted'], count)}",
    )
    facts.add_row(
        "Micro",
        f"ROC AUC {score(metrics['roc_auc_micro'])}, average precision "
        f"{score(metrics['average_precision_micro'])}",
    )
    facts.add_row(
        "Calibration error",
        f"{percent(metrics['ece'], count)}; "
        f"equal mass {percent(metrics['ece_equal_mass'], count)}, "
        f"classwise {percent(metrics['classwise_ece'], count)}",
    )
    _add_folds(facts, report)
    method = report.prior and IMBALANCE_METHODS.get(report.prior.imbalance)
    if method and method.probabilities_for:
        facts.add_row("Probabilities", f"for {method.probabilities_for} ({method.name})")
    if report.calibration is not None:
        before, after = report.calibration.before, report.calibration.after
        facts.add_row(
            "Calibrated",
            f"temperature {report.calibration.temperature:.3f}, fitted on "
            f"{report.calibration.fitted_on}: NLL {score(before.nll)} to "
            f"{score(after.nll)}, error {percent(before.ece, count)} to "
            f"{percent(after.ece, count)}",
        )
    facts.add_row("Sure pictures", _coverage(report))
    if report.costs is not None:
        predicted, cheapest = report.costs.predicted.mean, report.costs.least_cost.mean
        facts.add_row(
            "Cost of a picture",
            f"{predicted:.4g} as predicted, {cheapest:.4g} by least expected cost "
            f"({report.costs.changed} decided otherwise)",
        )
    if report.trained_on is not None:
        facts.add_row("Trained on", trained_on_in_words(report.trained_on))
    if metrics["classes_scored"] < metrics["num_classes"]:
        scored = f"{metrics['classes_scored']:,} of {metrics['num_classes']:,}"
        facts.add_row("Classes scored", scored)
    if report.intervals_method is not None:
        without = [name for name in headline_names(report.metrics) if name not in report.intervals]
        none = "; none (-) where all resamples agree, miss the value or are undefined"
        facts.add_row("Intervals", report.intervals_method + none * bool(without))
    speed = report.speed_metrics
    facts.add_row(
        "Speed",
        f"{speed['throughput_samples_per_sec']:.0f} images/s on {speed['device']}, without loading",
    )
    return facts


def _coverage(report: EvalReport) -> str:
    sure, surer = (row for row in report.coverage if row.wanted in _SHOWN_COVERAGES)
    right, righter = (percent(row.accuracy, row.pictures) for row in (sure, surer))
    return (
        f"{right} right in the surest {sure.coverage:.0%}, "
        f"{righter} in the surest {surer.coverage:.0%}"
    )


def _temperatures(found: Sequence[float | None]) -> str:
    return ", ".join("none" if heat is None else f"{heat:.3f}" for heat in found)


def _add_folds(facts: Table, report: EvalReport) -> None:
    """What cross-validation and averaging came to, in balanced accuracy and NLL."""
    across, ensemble = report.cross_validation, report.ensemble
    count = report.metrics["samples"]
    if across is not None:
        for title, name in (("Over folds", "balanced_accuracy"), ("", "accuracy")):
            low, high = across.interval[name]
            facts.add_row(
                title or "",
                f"{name.replace('_', ' ')} {percent(across.mean[name], count)} "
                f"± {percent(across.std[name], count)} "
                f"({percent(low, count)} to {percent(high, count)})",
            )
    if ensemble is not None:
        several = len(ensemble.folds) > 1
        one = "fold" if ensemble.models is None else "model"
        parts = [f"{len(ensemble.folds)} {one}s"] if several else []
        parts += [f"{ensemble.views} views"] if ensemble.views > 1 else []
        on = "" if ensemble.split is None else f" on {ensemble.split}"
        if any(ensemble.temperatures):
            facts.add_row("Calibrated", f"temperature {_temperatures(ensemble.temperatures)}")
        facts.add_row(
            "Averaged",
            f"{' x '.join(parts)}{on}, against {f'one {one}' if several else 'one view'} alone:",
        )
        for name, title in (("balanced_accuracy", "balanced accuracy"), ("nll", "NLL")):
            row, written = ensemble.gain[name], metric_writer(name, ensemble.samples)
            within = reach(row.interval, written)
            facts.add_row(
                "",
                f"{title} {written(row.this)}, change {written(row.difference)}"
                f"{within and f' ({within})'}",
            )


def _weakest_classes(report: EvalReport) -> RenderableType:
    scored = [(row.f1, row) for row in report.per_class if row.f1 is not None]
    shown = [row for _, row in sorted(scored, key=lambda pair: pair[0])]
    everything = len(shown) <= _MOST_CLASSES
    title = "Classes, weakest first" if everything else f"The {_WORST_CLASSES} weakest classes"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("Class", overflow="fold")
    for name in ("Pictures", "Precision", "Recall", "F1"):
        table.add_column(name, justify="right")
    for row in shown if everything else shown[:_WORST_CLASSES]:
        table.add_row(
            row.class_name,
            str(row.support),
            *(percent(share, row.support) for share in (row.precision, row.recall, row.f1)),
        )
    few = few_pictures([(row.class_name, row.support) for row in report.per_class])
    return Group(table, *([few] if few else []))


def _confusions(report: EvalReport) -> RenderableType:
    if not report.confusions:
        return Group("", "No picture was confused with another class.")
    table = Table(title="Most confused", title_justify="left", box=None, pad_edge=False)
    for title in ("Class", "Taken for"):
        table.add_column(title, overflow="fold")
    table.add_column("Times", justify="right")
    for row in report.confusions[:_WORST_CLASSES]:
        table.add_row(row.true, row.predicted, str(row.count))
    kinds = _kinds_of_mistakes(report)
    if kinds > _WORST_CLASSES:
        return Group("", table, f"{_WORST_CLASSES} of {kinds:,} pairs of classes")
    return Group("", table)


def _kinds_of_mistakes(report: EvalReport) -> int:
    """How many pairs of classes were confused; of very many classes, those that are listed."""
    rows = enumerate(report.confusion_matrix)
    counted = sum(bool(n) for true, row in rows for said, n in enumerate(row) if true != said)
    return counted or len(report.confusions)
