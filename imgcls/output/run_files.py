"""Observers that keep files of a run true while it trains.

run/
  bad_images.csv       pictures left out, from the moment each is met
  fold_0/history.csv   one row for each epoch so far
"""

from __future__ import annotations

from pathlib import Path

from imgcls.engine.checkpoint.checkpointer import go_on
from imgcls.engine.training.events import EpochDone, Event, FoldStarted, ImageSkipped, Stopped
from imgcls.results.audit import AuditPicture
from imgcls.storage.bad_images import add_bad_images, append_bad_image
from imgcls.storage.durable import writing
from imgcls.storage.tables import write_history


class HistoryFile:
    """Writes `history.csv` of the fold under way. Raises OutputError when it cannot."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def __call__(self, event: Event) -> None:
        """Write all epochs so far."""
        if isinstance(event, FoldStarted):
            self._folder = event.folder
        if isinstance(event, (FoldStarted, EpochDone)) and event.history:
            assert self._folder is not None, "a fold starts before its epochs"
            with writing(self._folder, go_on(self._folder.parent)):
                write_history(self._folder / "history.csv", event.history)


class BadImagesFile:
    """Lists pictures that are left out in `bad_images.csv`. Raises OutputError when it cannot."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._left_out: dict[str, AuditPicture] = {}

    def __call__(self, event: Event) -> None:
        """Write down a picture at once, so that a kill loses none; sort the list behind a fold."""
        if isinstance(event, ImageSkipped) and event.key not in self._left_out:
            picture = AuditPicture(event.key, event.label, note=event.reason)
            self._left_out[event.key] = picture
            with writing(self._run, go_on(self._run)):
                append_bad_image(self._run, picture)
        if isinstance(event, Stopped):
            with writing(self._run, go_on(self._run)):
                add_bad_images(self._run, self._left_out.values())
