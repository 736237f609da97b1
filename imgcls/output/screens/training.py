"""The screen while a fold trains: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from imgcls.engine.training.events import (
    EpochDone,
    Event,
    FeaturesDone,
    FoldStarted,
    HeadFitted,
    HeadPassDone,
    ImageSkipped,
    Interpolated,
    Resumed,
    Saved,
    StepDone,
    Stopped,
    TrackerFailed,
    ValidationBatchDone,
)
from imgcls.output.console import Console
from imgcls.output.screens.epoch_table import EpochTable, between_in_words, choice, name_of

if TYPE_CHECKING:
    from typing_extensions import Self

_LINE_EVERY_S = 30.0
_MOST_SKIPPED = 10


class TrainingView:
    """An observer that shows epochs and batches."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._fold = FoldStarted(0, (0,), Path(), 0, 0, 0, 0, 0, (), "val_loss", calibrates=False)
        self._table = EpochTable(self._fold.monitor, calibrates=False)
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._samples = self._skipped = 0
        self._epoch_start_s = self._line_at_s = time.monotonic()
        self._validating = False
        self._told: set[str] = set()
        self._history: Sequence[Mapping[str, float | None]] = ()
        self._between: list[Interpolated] = []
        self._head: HeadFitted | None = None  # said below the heading of its fold

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._close_bars()

    def on_signal(self, number: int) -> None:
        """Say that the signal was heard; the loop stops at the next step boundary."""
        name = signal.Signals(number).name
        with contextlib.suppress(RuntimeError):  # rich's lock may be held by the interrupted line
            self._console.say(f"{name}: saving, then stopping (Ctrl-C again stops at once)")

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case FeaturesDone() | HeadPassDone() | HeadFitted():
                self._fitting(event)
            case FoldStarted():
                self._begin(event)
            case Resumed() | Saved():
                self._say_problems(event)
            case ImageSkipped():
                self._skipped += 1
                self._say_skipped(event)
            case StepDone():
                self._step(event)
            case ValidationBatchDone():
                self._validated()
            case EpochDone() | Interpolated():
                self._scored(event)
            case Stopped():
                self._end(event)
            case TrackerFailed():
                self._console.warn(str(event))
            case _:
                pass

    def _say_problems(self, event: Resumed | Saved) -> None:
        if isinstance(event, Resumed) and event.inexact:
            self._console.warn(
                f"not exact from here on: {', '.join(event.inexact)}; the result will differ a "
                "little from an uninterrupted run's"
            )
        for problem in event.problems:
            if problem not in self._told:
                passed_over = "passed over a checkpoint: " if isinstance(event, Resumed) else ""
                self._console.warn(f"{passed_over}{problem}")
                self._told.add(problem)

    def _end(self, event: Stopped) -> None:
        self._close_bars()
        if event.early:
            since = "" if not event.best_epoch else f" after epoch {event.best_epoch}"
            usable = "" if event.best_epoch is not None else f" with a {self._fold.monitor}"
            self._console.say(
                f"Stopped early, after {event.epoch} of {self._fold.epochs} epochs: no new best "
                f"one{usable or since}."
            )
        self._say_choice(event)

    def _say_choice(self, event: Stopped) -> None:
        """What was chosen and why, where there was more than one to choose from."""
        if event.best_epoch is None or len(self._history) == 1:
            return
        rows = {int(row["epoch"] or 0): row for row in self._history}
        best = name_of(event.best_epoch), rows.get(event.best_epoch)
        if event.chosen is not None:
            best = between_in_words(event.chosen.share, event.epoch), event.chosen.metrics
        if best[1] is None:
            return  # of an earlier end, which has no row
        said = choice(
            self._fold.monitor, self._history, (best[0], best[1]), competed=bool(self._between)
        )
        if said is not None:
            self._console.say(said)

    def _say_skipped(self, event: ImageSkipped) -> None:
        if self._skipped <= _MOST_SKIPPED:
            self._console.warn(f"{event.location}: cannot be read ({event.reason}); left out")
        elif self._skipped == _MOST_SKIPPED + 1:
            self._console.warn("more pictures cannot be read; bad_images.csv will list all")

    def _fitting(self, event: FeaturesDone | HeadPassDone | HeadFitted) -> None:
        if isinstance(event, FeaturesDone):
            self._count("features", event.done, event.total, "pictures")
        elif isinstance(event, HeadPassDone):
            self._count("classifier", event.done, event.most, "passes over the features at most")
        else:
            self._close_bars()
            self._head = event

    def _count(self, what: str, done: int, total: int, unit: str) -> None:
        """Show how much of what comes before the first epoch is done."""
        if self._console.live:
            if self._bars is not None and what not in self._tasks:
                self._close_bars()
            if self._bars is None:
                self._bars = self._new_bars()
                self._tasks = {what: self._bars.add_task(what, total=total, note=unit)}
                self._bars.start()
            self._bars.update(self._tasks[what], completed=done)
        elif time.monotonic() - self._line_at_s >= _LINE_EVERY_S:
            self._line_at_s = time.monotonic()
            self._console.say(f"{what} of {done:,} of {total:,} {unit}")

    def _say_head(self, event: HeadFitted) -> None:
        views = f" in {event.views} views" if event.views > 1 else ""
        chosen = (
            f"by {event.folds} inner folds"
            if event.folds > 1
            else "by a held-out tenth"
            if event.folds
            else "(scikit-learn's; no class has two pictures to choose it by)"
        )
        self._console.say(
            f"Logistic regression on the features of {event.pictures:,} pictures{views}: C "
            f"{event.c:.2g} {chosen}."
        )
        self._console.say(
            f"It took {event.elapsed_s:.1f} s, of which {event.features_s:.1f} s for features."
        )
        if event.reason is not None:
            self._console.warn(f"the classifier's fit: {event.reason}")

    def _new_bars(self) -> Progress:
        return self._console.bars(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )

    def _begin(self, event: FoldStarted) -> None:
        self._close_bars()
        self._fold = event
        self._table = EpochTable(event.monitor, calibrates=event.calibrates)
        self._samples = 0
        self._history, self._between = event.history, []
        self._epoch_start_s = time.monotonic()
        if len(event.folds) > 1:
            turn = event.folds.index(event.fold) + 1
            self._console.say(f"Fold {event.fold} ({turn} of {len(event.folds)})")
        if self._head is not None:
            self._say_head(self._head)
            self._head = None
        if event.trained:
            self._console.say(f"Going on with fold {event.fold} behind its last epoch.")
        elif event.epoch or event.step_in_epoch:
            where = f"epoch {event.epoch + 1}"
            inside = f", step {event.step_in_epoch + 1}" if event.step_in_epoch else ""
            self._console.say(f"Going on with fold {event.fold} at {where}{inside}.")
        # first, because a notebook shows what is printed below them
        self._open_bars(event)
        if event.epoch < event.epochs or not event.history:
            if self._table.rule() not in self._told:  # the folds of a run have the same
                self._console.say(self._table.rule())
                self._told.add(self._table.rule())
            self._console.say(self._table.header())

    def _open_bars(self, event: FoldStarted) -> None:
        if not self._console.live:
            return
        self._bars = self._new_bars()
        self._tasks = {
            "epoch": self._bars.add_task(
                "epochs", total=event.epochs, completed=event.epoch, note=""
            ),
            "batch": self._bars.add_task(
                "training", total=event.steps_per_epoch, completed=event.step_in_epoch, note=""
            ),
        }
        self._validating = False
        self._bars.start()

    def _step(self, event: StepDone) -> None:
        self._samples += event.samples
        now_s = time.monotonic()
        rate = self._samples / max(now_s - self._epoch_start_s, 1e-9)
        note = f"loss {event.loss:.3f}  lr {event.lr:.1e}  {rate:.0f} img/s"
        if self._bars is not None:
            self._bars.update(self._tasks["batch"], advance=1, note=note)
        elif now_s - self._line_at_s >= _LINE_EVERY_S:
            self._line_at_s = now_s
            steps = self._fold.steps_per_epoch
            self._console.say(
                f"epoch {event.epoch}/{self._fold.epochs}  "
                f"step {event.step_in_epoch}/{steps}  {note}"
            )

    def _validated(self) -> None:
        if self._bars is None:
            return
        [bar] = [task for task in self._bars.tasks if task.id == self._tasks["batch"]]
        # weights part of the way are validated one after the other
        if not self._validating or bar.finished:
            self._restart_bar("validating", self._fold.val_batches)
        self._bars.advance(self._tasks["batch"])

    def _restart_bar(self, title: str, total: int) -> None:
        assert self._bars is not None
        self._validating = title == "validating"
        self._bars.reset(self._tasks["batch"], total=total, description=title, note="")

    def _scored(self, event: EpochDone | Interpolated) -> None:
        if isinstance(event, EpochDone):
            self._epoch(event)
        else:
            self._interpolated(event)

    def _epoch(self, event: EpochDone) -> None:
        row = event.history[-1]
        name = f"{event.epoch}/{self._fold.epochs}" if event.epoch else "head"
        self._console.say(self._table.row(name, row, best=event.improved))
        self._samples = 0
        self._epoch_start_s = self._line_at_s = time.monotonic()
        if self._bars is not None:
            self._bars.update(self._tasks["epoch"], completed=event.epoch)
            self._restart_bar("training", self._fold.steps_per_epoch)

        self._history = event.history

    def _interpolated(self, event: Interpolated) -> None:
        if not self._between:
            self._console.say(f"Weights part of the way from the head to epoch {event.epoch}:")
        self._between.append(event)
        name = f"{event.share:.0%}"
        self._console.say(
            self._table.row(name, event.metrics, best=event.improved, timed=False).rstrip()
        )

    def _close_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
