"""The observers of every run, told in this order before those that the caller brings."""

from __future__ import annotations

from pathlib import Path

from imgcls.config.run import TrainConfig
from imgcls.engine.training.events import Observer
from imgcls.output.run_files import BadImagesFile, HistoryFile


def run_observers(config: TrainConfig, run: Path) -> tuple[Observer, ...]:
    """Those that the config asks for, made once when a run begins or goes on.

    A tracker is a module beside this one with a function or class of events, and a line here.
    """
    observers: list[Observer] = [HistoryFile()]
    if config.data.on_bad_image == "skip":
        observers.append(BadImagesFile(run))
    return tuple(observers)
