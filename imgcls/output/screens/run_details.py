"""One run as a screen of 80 columns."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from rich.console import RenderableType

from imgcls.metrics.registry import VALIDATION
from imgcls.output.console import Console
from imgcls.output.metric_names import metric_title, metric_writer
from imgcls.output.numbers import MISSING, byte_size, pictures_and_classes, reach
from imgcls.output.screens.choice import choice_screens
from imgcls.output.screens.runs import began_in_words, epochs_in_words
from imgcls.output.screens.screen import facts_table, option_value, panel, prose, titled_table
from imgcls.results.run_details import EvaluatedSplit, FoldDetails, RunDetails, Setting

_SHOWN = ("accuracy", "balanced_accuracy", "f1_macro", "nll")
_MOST_CLASSES = 12
_MOST_CHECKPOINTS = 12


def show_details(console: Console, found: RunDetails) -> None:
    """State, data, what was set, the best epochs, evaluations, checkpoints, what to type."""
    screens: list[RenderableType] = [panel(found.row.name, _facts(found))]
    for part in _settings(found.settings):
        screens += ["", part]
    if found.model_choice is not None:
        screens += ["", *choice_screens(found.model_choice)]
    screens += ["", _best(found)]
    if found.evaluations:
        screens += ["", _evaluations(found.evaluations)]
    screens += ["", _checkpoints(found.folds), ""]
    console.result(found, *screens)
    console.path("Again", found.command)
    console.path("Next", _next(found))
    for page in (each.report for each in found.evaluations):
        if page is not None:
            console.path("Report", str(page))
    for note in found.notes:
        console.warn(note)
    for each in found.evaluations:
        where = f"{each.split}, fold {each.fold}" if len(found.folds) > 1 else each.split
        if not each.of_best:
            console.warn(
                f"{where}: is of another checkpoint than the best one now: {each.checkpoint}"
            )
        if each.trained_on:
            console.warn(f"{where}: {each.trained_on:,} of its pictures were trained on")


def _facts(found: RunDetails) -> RenderableType:
    row, facts = found.row, facts_table()
    facts.add_row("Status", row.status if row.reason is None else f"{row.status}: {row.reason}")
    facts.add_row("Began", began_in_words(row.began))
    pictures = sum(count for counts in found.class_counts.values() for count in counts.values())
    facts.add_row("Data", f"{row.data}: {pictures_and_classes(pictures, len(found.class_names))}")
    names = ", ".join(found.class_names[:_MOST_CLASSES])
    more = len(found.class_names) - _MOST_CLASSES
    facts.add_row("Classes", names + (f" and {more:,} more" if more > 0 else ""))
    for fold in found.folds:
        counts = ", ".join(f"{count:,} {split}" for split, count in fold.pictures.items())
        which = f"Fold {fold.fold}" if len(found.folds) > 1 else "Split"
        by = f" ({found.splitter})" if found.splitter and fold is found.folds[0] else ""
        facts.add_row(which, f"{counts}{by}")
    if found.fingerprint is not None:
        facts.add_row("Fingerprint", found.fingerprint[:16])
    facts.add_row("Model", str(row.model))
    facts.add_row("Epochs", epochs_in_words(row))
    shown = [f"{n} {v}" for n, v in found.versions.items() if n in ("imgcls", "torch", "timm")]
    if shown:
        facts.add_row("Versions", ", ".join(shown))
    for fold in found.folds:
        for name, kept in fold.trackers.items():
            said = ", ".join(f"{key} {value}" for key, value in kept.items())
            facts.add_row(f"Tracked by {name}", said)
    facts.add_row("Size", byte_size(row.size_bytes))
    return facts


def _settings(settings: Sequence[Setting]) -> Iterator[RenderableType]:
    """Those that are not at a default, then, in a line, those that it leaves open."""
    chosen = [each for each in settings if each.default != "auto"]
    if chosen:
        table = titled_table("Not at its default", "Option", "Value", "Default")
        for each in chosen:
            table.add_row(each.name, option_value(each.value), option_value(each.default))
        yield table
    left = [
        f"{each.name} {option_value(each.value)}" for each in settings if each.default == "auto"
    ]
    if left:
        yield prose(f"Where the default is auto: {', '.join(left)}")


def _best(found: RunDetails) -> RenderableType:
    columns = [c for c in VALIDATION if c.shown]
    table = titled_table("Best epoch on val", "Fold", "Epoch", "lr", *(c.title for c in columns))
    for fold in found.folds:
        val = fold.pictures["val"]
        cells = (metric_writer(c.of, val)(fold.best.get(c.name)) for c in columns)
        lr = fold.best.get("lr")
        epoch = MISSING if fold.best_epoch is None else f"{fold.best_epoch} of {fold.epochs}"
        if fold.share is not None:
            epoch = f"{fold.share:.0%} of the way to {fold.best_epoch}"
        table.add_row(str(fold.fold), epoch, MISSING if lr is None else f"{lr:.3g}", *cells)
    return table


def _evaluations(evaluations: tuple[EvaluatedSplit, ...]) -> RenderableType:
    table = titled_table("Evaluated", "On", "Fold", "Metric", "Value", "95% interval")
    for each in evaluations:
        first = True
        for name in _SHOWN:
            value: float | None = each.metrics.get(name)
            written = metric_writer(name, each.metrics.get("samples") or 0)
            where = (each.split, str(each.fold)) if first else ("", "")
            interval = reach(each.intervals.get(name), written) or MISSING
            table.add_row(*where, metric_title(name), written(value), interval)
            first = False
    return table


def _checkpoints(folds: tuple[FoldDetails, ...]) -> RenderableType:
    table = titled_table("Checkpoints", "Name", "Fold", "Epoch", "Size", "")
    saved = [(fold.fold, each) for fold in folds for each in fold.checkpoints]
    for number, each in saved[:_MOST_CHECKPOINTS]:
        marks = [word for word, is_it in (("best", each.best), ("last", each.last)) if is_it]
        epoch = MISSING if each.epoch is None else str(each.epoch)
        table.add_row(each.name, str(number), epoch, byte_size(each.size_bytes), ", ".join(marks))
    if len(saved) > _MOST_CHECKPOINTS:
        table.add_row(f"and {len(saved) - _MOST_CHECKPOINTS:,} more", "", "", "", "")
    return table


def _next(found: RunDetails) -> str:
    run = shlex.quote(str(found.row.path))
    if found.row.status in ("stopped", "failed"):
        return f"imgcls resume {run}"
    if any(each.split == "test" for each in found.evaluations):
        fold = f"/fold_{found.folds[0].fold}"
        return f"imgcls benchmark {shlex.quote(f'{found.row.path}{fold}')}"
    several = " --fold all" if len(found.folds) > 1 else ""
    return f"imgcls evaluate {run}{several} --split test"
