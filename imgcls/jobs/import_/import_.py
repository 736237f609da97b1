"""A checkpoint folder, or with data a run, out of a file that another trainer saved."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from imgcls.config.import_ import ImportConfig
from imgcls.engine.checkpoint.folder import Snapshot, save_checkpoint, take_snapshot
from imgcls.jobs.import_.run import import_run
from imgcls.jobs.import_.source import BEGAN_WITH, Source, read_source
from imgcls.results.checkpoint import Sidecar
from imgcls.results.training import ImportReport
from imgcls.storage.durable import writing
from imgcls.storage.runs import plain_name


def import_checkpoint(
    config: ImportConfig, on_picture: Callable[[int, int], None] = lambda _done, _total: None
) -> ImportReport:
    """What another trainer saved as an ordinary checkpoint; with data, as a run around it.

    Nothing in the file is run, and nothing that exists is written over. on_picture is told
    (pictures checked, pictures in all). Raises ModelError for a file that cannot be imported,
    ConfigError, DataError, and OutputError where it cannot be written.
    """
    source = read_source(config)
    if config.data is None:
        return _as_checkpoint(config, source)
    return import_run(config, config.data, source, on_picture)


def _as_checkpoint(config: ImportConfig, source: Source) -> ImportReport:
    trained = source.trained
    sidecar = Sidecar(
        model_name=source.name,
        class_names=source.class_names,
        starting_weights=BEGAN_WITH,
        epoch=trained.epochs,
        metrics=trained.metrics,
    )
    snapshot = take_snapshot(source.fitted.model, source.card(), sidecar)
    name = config.experiment or f"{plain_name(source.file.stem)}-{plain_name(source.name)}"
    folder = _saved(snapshot, config.output, name)
    facts = source.facts()
    if trained.optimizer is not None:
        facts["Optimizer"] = "left out; with --data DATA the training can be resumed"
    check = ""
    if not source.names_are_proven:
        check = (
            f"nothing in {source.file.name} proves the order of the classes: it was taken from "
            f"{source.names_from}; check it: imgcls evaluate {shlex.quote(str(folder))} --data DATA"
        )
    return source.report(folder, facts=facts, notes=tuple(filter(None, (check,))))


def _saved(snapshot: Snapshot, output: Path, name: str) -> Path:
    """A new folder in `output` with this checkpoint; a name that is taken gets a number."""
    number = 1
    with writing(output / name):
        output.mkdir(parents=True, exist_ok=True)
        while True:
            folder = output / (name if number == 1 else f"{name}-{number}")
            if not os.path.lexists(folder):
                return save_checkpoint(snapshot, folder)
            number += 1
