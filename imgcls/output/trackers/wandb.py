"""Weights & Biases: its server where one is logged in, else `wandb/offline-run-*` here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import wandb

from imgcls.output.trackers.tracker import (
    EvaluationRecord,
    Status,
    TrackedFold,
    image_name,
    metric_name,
)

PROJECT = "imgcls"


class Wandb:
    """One run of the fold's key; steps are its column `epoch`, since its own only ever rise.

    Offline nobody can be asked what is logged, so the last epoch is kept with the fold.
    """

    def __init__(self, fold: TrackedFold) -> None:
        options: dict[str, Any] = {
            "project": None if wandb.setup().settings.project else PROJECT,
            "id": fold.key,
            "name": fold.name,
            "group": fold.group,
            "config": {**fold.hyperparameters, **fold.tags},
            "resume": "allow",
            "reinit": "create_new",
            "allow_val_change": True,
            # the output of this process is none of the training's
            "settings": wandb.Settings(console="off", silent=True),
        }
        try:
            self._run = wandb.init(**options)
        except wandb.errors.UsageError:  # there is no key, and nobody to ask for one
            self._run = wandb.init(**options, mode="offline")
        # not filled in where it is not said: an evaluation's pictures are of no epoch under way
        self._run.define_metric("*", step_metric="epoch", step_sync=False)
        known = self._run.summary.get("epoch")
        self._last = max(fold.kept.get("last", -1), -1 if known is None else int(known))

    def keep(self) -> Mapping[str, Any]:
        """The last epoch that was logged."""
        return {"last": self._last}

    def log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Log the epochs behind the last one."""
        for row in rows:
            epoch = int(row["epoch"])
            if epoch > self._last:
                self._run.log(dict(row))
                self._last = epoch

    def evaluation(self, record: EvaluationRecord) -> None:
        """Put its metrics into the summary, and log its pictures and its page."""
        for name, value in record.metrics.items():
            self._run.summary[metric_name(record, name)] = value
        pictures = {image_name(record, file): wandb.Image(file) for file in record.images}
        self._run.log(pictures)
        artifact = wandb.Artifact(f"evaluation-{record.name}-{self._run.id}", type="evaluation")
        for file in record.files:
            artifact.add_file(file)
        self._run.log_artifact(artifact)

    def end(self, status: Status) -> None:
        """Return when everything is sent or on disk."""
        self._run.finish(exit_code=int(status == "failed"))
