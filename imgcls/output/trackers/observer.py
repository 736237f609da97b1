"""The observer that tells trackers of a run what its checkpoints hold."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from imgcls.config.run import TrainConfig
from imgcls.engine.device.runtime import versions
from imgcls.engine.training.events import (
    EpochDone,
    Evaluated,
    Event,
    FoldStarted,
    Observer,
    RunEnded,
    Saved,
    StepDone,
    TrackerFailed,
    ValidationBatchDone,
)
from imgcls.output.trackers.evaluations import evaluation_record
from imgcls.output.trackers.process import TrackerError, TrackerProcess
from imgcls.output.trackers.tracker import Status, tracked_fold
from imgcls.storage.tracked import keep, new_tracked, read_tracked, write_tracked


class TrackersOf:
    """Tells a run's trackers the rows of `history.csv`, each as soon as a checkpoint holds it.

    Such an epoch is never trained again, so no step comes twice. What a kill lost is found missing
    and logged when the run goes on. A tracker that fails is told of once, through `tell`, and asked
    no more; training waits for none but at the end of a fold. fingerprint: of the data.
    """

    def __init__(
        self,
        config: TrainConfig,
        run: Path,
        fingerprint: Callable[[], str],
        tell: Observer | None = None,
    ) -> None:
        log = config.runtime.log
        self._names = () if log == "none" else tuple(dict.fromkeys(log))
        self._config = config
        self._run = run
        self._fingerprint = fingerprint
        self._tell = tell or _warn
        self._processes: dict[str, TrackerProcess] | None = None
        self._fold: Path | None = None
        # not yet held by a checkpoint
        self._rows: list[dict[str, float]] = []
        self._speed = _Speed()

    def __call__(self, event: Event) -> None:
        """Take in one event; raises nothing of a tracker's."""
        self._speed(event)
        match event:
            case FoldStarted():
                self._end_fold("finished")
                self._begin_fold(event)
            case EpochDone():
                row = numbers(event.history[-1])
                self._rows.append({**row, **self._speed.of_epoch()})
            case Saved():
                held = [row for row in self._rows if row["epoch"] <= event.epoch]
                self._rows = self._rows[len(held) :]
                if held:
                    self._each(lambda process: process.ask(rows=held))
            case StepDone() | ValidationBatchDone():
                self._each(TrackerProcess.advance)
            case Evaluated():
                self._each(partial(_evaluated, event))
            case RunEnded():
                self._end_fold(event.status)
                self._each(TrackerProcess.close)
            case _:
                pass

    def _begin_fold(self, event: FoldStarted) -> None:
        self._rows = []
        known = read_tracked(event.folder)
        if known is None and not self._names:
            return
        self._fold = event.folder
        tracked = replace(known or new_tracked(), open=True, names=self._names)
        # a full disk ends no training here
        with contextlib.suppress(OSError):
            write_tracked(event.folder, tracked)
        if self._processes is None:
            self._processes = {}
            for name in self._names:
                self._guarded(name, partial(self._start, name))
        about = {"data_fingerprint": self._fingerprint(), **versions()}
        fold = tracked_fold(event.folder, self._config, tracked.key, event.epoch, about)
        rows = [numbers(row) for row in event.history]
        for tracker, process in tuple(self._processes.items()):
            opened = replace(fold, kept=tracked.kept.get(tracker, {})).to_json()
            self._guarded(tracker, partial(process.ask, open=opened))
            self._guarded(tracker, partial(process.ask, rows=rows))

    def _start(self, name: str) -> None:
        def on_kept(kept: Mapping[str, Any]) -> None:
            if self._fold is not None:
                with contextlib.suppress(OSError):
                    keep(self._fold, name, kept)

        assert self._processes is not None, "they are started together"
        self._processes[name] = TrackerProcess(name, on_kept)

    def _end_fold(self, status: Status) -> None:
        """End the tracked runs of the fold under way, if any; the next one is another."""
        self._each(lambda process: process.ask(end=status))
        self._each(TrackerProcess.finish)
        fold, self._fold = self._fold, None
        tracked = None if fold is None else read_tracked(fold)
        if fold is not None and tracked is not None and status == "finished":
            with contextlib.suppress(OSError):
                write_tracked(fold, replace(tracked, open=False))

    def _each(self, act: Callable[[TrackerProcess], None]) -> None:
        for name, process in tuple((self._processes or {}).items()):
            self._guarded(name, partial(act, process))

    def _guarded(self, name: str, act: Callable[[], None]) -> None:
        try:
            act()
        except TrackerError as error:
            if self._processes is not None:
                self._processes.pop(name, None)
            self._tell(TrackerFailed(name, str(error)))


def _evaluated(event: Evaluated, process: TrackerProcess) -> None:
    try:
        record = evaluation_record(event.results, event.epoch)
    except (OSError, ValueError) as error:
        raise TrackerError(str(error)) from error
    process.ask(evaluation=record.to_json())


class _Speed:
    """Pictures a second of the epoch under way, loading included and validation not."""

    def __init__(self) -> None:
        self._samples = 0
        self._began_s = self._ended_s = time.monotonic()
        self._last = 0, 0.0

    def __call__(self, event: Event) -> None:
        match event:
            case FoldStarted() | EpochDone():
                self._last = self._samples, self._ended_s - self._began_s
                self._samples = 0
                self._began_s = time.monotonic()
            case StepDone():
                self._samples += event.samples
                self._ended_s = time.monotonic()
            case _:
                pass

    def of_epoch(self) -> dict[str, float]:
        """The speed of the epoch that ended last, by its name; {} where it had no updates."""
        samples, elapsed_s = self._last
        return {"images_per_s": samples / elapsed_s} if samples and elapsed_s > 0 else {}


def numbers(row: Mapping[str, float | None]) -> dict[str, float]:
    """The columns of a row that have a value."""
    return {name: value for name, value in row.items() if value is not None}


def _warn(event: Event) -> None:
    if isinstance(event, TrackerFailed):
        warnings.warn(str(event), stacklevel=2)
