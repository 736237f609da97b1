"""The observers of every run, told in this order before those that the caller brings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imgcls.config.run import TrainConfig
from imgcls.engine.training.events import Observer
from imgcls.output.run_files import BadImagesFile, HistoryFile
from imgcls.output.trackers.observer import TrackersOf


def run_observers(
    config: TrainConfig,
    run: Path,
    fingerprint: Callable[[], str],
    tell: Observer | None = None,
) -> tuple[Observer, ...]:
    """Those that the config asks for, made once when a run begins or goes on.

    fingerprint: of the data. tell: hears of trackers that fail; without it Python warns.
    """
    observers: list[Observer] = [HistoryFile()]
    if config.data.on_bad_image == "skip":
        observers.append(BadImagesFile(run))
    observers.append(TrackersOf(config, run, fingerprint, tell))
    return tuple(observers)
