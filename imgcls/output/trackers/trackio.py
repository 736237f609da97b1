"""Trackio: a SQLite file of each project on this machine, TRACKIO_DIR or its default place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import trackio
from trackio.sqlite_storage import SQLiteStorage

from imgcls.output.trackers.tracker import (
    EvaluationRecord,
    Status,
    TrackedFold,
    image_name,
    metric_name,
)

PROJECT = "imgcls"


class Trackio:
    """One Trackio run on this machine, found by the fold's key."""

    def __init__(self, fold: TrackedFold) -> None:
        SQLiteStorage.init_db(PROJECT)
        self._logged: dict[int, dict[str, Any]] = {}
        for row in SQLiteStorage.get_logs(PROJECT, run_id=fold.key):
            self._logged.setdefault(row["step"], {}).update(row)
        self._run = trackio.Run(
            url=None,
            project=PROJECT,
            client=None,
            name=fold.name,
            run_id=fold.key,
            group=fold.group,
            config={**fold.hyperparameters, **fold.tags},
        )

    def keep(self) -> Mapping[str, Any]:
        """Nothing: the key finds the run."""
        return {}

    def log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Log what the run lacks."""
        for row in rows:
            self._log(int(row["epoch"]), row)

    def evaluation(self, record: EvaluationRecord) -> None:
        """Log its metrics and pictures, and its page."""
        named = {metric_name(record, name): value for name, value in record.metrics.items()}
        pictures = {image_name(record, file): trackio.Image(file) for file in record.images}
        self._log(record.step, named)
        self._run.log(pictures, step=record.step)
        artifact = trackio.Artifact(f"evaluation-{record.name}-{self._run.id}", type="evaluation")
        for file in record.files:
            artifact.add_file(file)
        self._run.log_artifact(artifact)

    def end(self, status: Status) -> None:  # noqa: ARG002  Trackio knows none
        """Return when everything is in the database."""
        self._run.finish()

    def _log(self, step: int, values: Mapping[str, float]) -> None:
        logged = self._logged.setdefault(step, {})
        new = {name: value for name, value in values.items() if logged.get(name) != value}
        if new:
            self._run.log(new, step=step)
        logged.update(new)
