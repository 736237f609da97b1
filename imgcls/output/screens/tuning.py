"""The screen of a search: a line a trial while it runs, then the table and what mattered."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from imgcls.engine.training.events import (
    Event,
    FoldStarted,
    Resumed,
    StepDone,
    TrackerFailed,
    ValidationBatchDone,
)
from imgcls.engine.training.selection.trackers import MetricTracker
from imgcls.output.console import Console
from imgcls.output.screens.training import TrainingView
from imgcls.results.search import TrialRecord, TuneResult

_MOST_TRIALS = 20
_FEW_TRIALS = 20


class TuningView(TrainingView):
    """Shows a bar for the trial under way and a line for each that ended."""

    def __init__(
        self,
        console: Console,
        metric: str,
        trials: int,
        done: Iterable[TrialRecord] = (),
    ) -> None:
        super().__init__(console)
        self._trials = trials
        self._best = MetricTracker(metric)
        self._title = ""
        self._task = TaskID(0)
        for record in done:
            self._is_best(record)

    def begin(self, number: int, begun: int) -> None:
        """A trial begins."""
        self._title = f"trial {number} ({begun} of {self._trials})"

    def end(self, record: TrialRecord) -> None:
        """One line: how the trial did."""
        self._close_bars()
        mark = "  best so far" if self._is_best(record) else ""
        self._console.say(
            f"trial {record.number:>3}  {_number(record.value):>7}  {record.epochs:>3} epochs"
            f"{record.elapsed_s:>9.1f} s  {_state(record)}{mark}"
        )

    def __call__(self, event: Event) -> None:
        """See one event of the trial's loop."""
        match event:
            case FoldStarted():
                self._fold = event
                self._open_bar(event)
            case StepDone() | ValidationBatchDone():
                if self._bars is not None:
                    self._bars.advance(self._task)
            case Resumed() | TrackerFailed():
                super().__call__(event)
            case _:
                pass

    def _is_best(self, record: TrialRecord) -> bool:
        return record.state == "complete" and self._best.update(
            record.number, {self._best.metric: record.value}
        )

    def _open_bar(self, fold: FoldStarted) -> None:
        self._close_bars()
        if not self._console.live:
            return
        per_epoch = fold.steps_per_epoch + fold.val_batches
        self._bars = self._console.bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
        )
        self._task = self._bars.add_task(
            self._title,
            total=fold.epochs * per_epoch,
            completed=fold.epoch * per_epoch + fold.step_in_epoch,
        )
        self._bars.start()


def show_search(console: Console, space: dict[str, Any], trials: int, begun: int) -> None:
    """What the search varies, a parameter a line, and how far it has come."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True, min_width=len("Parameters"))
    table.add_column(overflow="fold")
    for index, (path, dimension) in enumerate(space.items()):
        table.add_row("" if index else "Search", f"{path}: {_dimension(dimension)}")
    table.add_row("Trials", f"{trials}, {begun} of them begun before" if begun else str(trials))
    console.say(table)


def show_tuning(console: Console, result: TuneResult) -> None:
    """The trials, best first; what mattered; the gain; what to type next."""
    screens: list[RenderableType] = [_trial_table(result)]
    if result.importances:
        screens.append(_importance_table(result))
    screens.append(_gain(result))
    console.result(result, *screens)
    console.path("Study", str(result.study))
    if result.best.run is not None and (result.study / result.best.run).is_dir():
        run = shlex.quote(str(result.study / result.best.run))
        console.path("Test it", f"imgcls evaluate {run} --split test")
    config = shlex.quote(str(result.best_config))
    console.path("Train it", f"imgcls train --config {config}")
    waiting = [r for r in result.trials if r.state in ("running", "waiting")]
    if waiting:
        console.path("Go on", result.command)
        trials = "1 trial is" if len(waiting) == 1 else f"{len(waiting)} trials are"
        console.warn(f"{trials} not at the end: the time was up, or another process has them")


def _trial_table(result: TuneResult) -> RenderableType:
    sign = 1 if MetricTracker(result.metric).mode == "min" else -1
    ranks = {"complete": 0, "pruned": 1, "failed": 2}
    shown = sorted(
        (r for r in result.trials if r.state in ranks),
        key=lambda r: (ranks[r.state], sign * (r.value or 0.0), r.number),
    )
    names = list(result.best.params)
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    # a column is as wide as its numbers; its title folds
    for title in ("Trial", _spoken(result.metric), "Epochs", "Time"):
        table.add_column(title.replace(" ", "\n"), justify="right", overflow="fold")
    for name in names:
        title = name.rpartition(".")[2].replace("_", "\n")
        table.add_column(title, justify="right", overflow="fold")
    table.add_column("")
    for record in shown[:_MOST_TRIALS]:
        table.add_row(
            str(record.number),
            _number(record.value),
            str(record.epochs),
            f"{record.elapsed_s:.0f} s",
            *(_setting(record.params.get(name)) for name in names),
            "as is" if record.is_start else "" if record.state == "complete" else record.state,
        )
    more = len(shown) - _MOST_TRIALS
    note = [f"... and {more} more in {result.study}/trials.csv"] if more > 0 else []
    return Group("Trials, best first", table, *note, "")


def _importance_table(result: TuneResult) -> RenderableType:
    complete = sum(r.state == "complete" for r in result.trials)
    rough = ", a rough guess" if complete < _FEW_TRIALS else ""
    title = f"What mattered, from {complete} trials{rough}"
    table = Table(box=None, pad_edge=False, show_header=False)
    for path, share in result.importances.items():
        table.add_row(path, f"{share:.0%}", "█" * round(30 * share))
    return Group(title, table, "")


def _gain(result: TuneResult) -> RenderableType:
    best, start = result.best, result.start
    text = f"Best: trial {best.number}, {_spoken(result.metric)} {_number(best.value)}; "
    if start is None:
        text += "the settings as they are were not tried"
    elif start.number == best.number:
        text += "nothing beat the settings as they are"
    else:
        text += f"the settings as they are: {_number(start.value)}"
    complete = sum(r.state == "complete" for r in result.trials)
    return (
        f"{text}\nChosen among {complete} by validation, so that number flatters: judge on test, "
        "once.\n"
    )


def _dimension(dimension: Any) -> str:
    if isinstance(dimension, list):
        return ", ".join(_setting(value) for value in dimension)
    scale = " (log)" if dimension.get("log") else ""
    step = f" by {dimension['step']:g}" if dimension.get("step") else ""
    return f"{float(dimension['low']):g} to {float(dimension['high']):g}{step}{scale}"


def _spoken(metric: str) -> str:
    return metric.replace("_", " ")


def _state(record: TrialRecord) -> str:
    return f"failed: {record.error}" if record.state == "failed" else record.state


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _setting(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.2g}" if isinstance(value, float) else str(value)
