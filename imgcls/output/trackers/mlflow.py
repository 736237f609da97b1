"""MLflow's tracking store: MLFLOW_TRACKING_URI, else its own default, a SQLite file here."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
)

from imgcls.output.trackers.tracker import EvaluationRecord, Status, TrackedFold, metric_name

EXPERIMENT = "imgcls"
KEY_TAG = "imgcls.key"
_STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
_LONGEST_PARAM, _MOST_PARAMS = 6000, 100
_SQLITE = "sqlite:///"


class Mlflow:
    """One MLflow run for the fold, found by a tag; no run of the caller's own is touched."""

    def __init__(self, fold: TrackedFold) -> None:
        _give_up_early()
        self._uri = _store(fold.kept)
        self._client = mlflow.MlflowClient(tracking_uri=self._uri)
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        self._id = self._find(experiment, fold)
        run = self._client.get_run(self._id)
        self._logged = {name: self._values(name) for name in run.data.metrics}
        self._trains = fold.trains
        if fold.trains:
            self._client.update_run(self._id, status="RUNNING")
        params = {n: str(v)[:_LONGEST_PARAM] for n, v in fold.hyperparameters.items()}
        tags = {name: str(value) for name, value in fold.tags.items()}
        for name, value in run.data.params.items():
            # a param never changes: one that the run goes on with is told by a tag
            if params.get(name, value) != value:
                tags[f"changed.{name}"] = params[name]
        new = [Param(n, v) for n, v in params.items() if n not in run.data.params]
        for start in range(0, len(new), _MOST_PARAMS):
            self._client.log_batch(self._id, params=new[start : start + _MOST_PARAMS])
        self._client.log_batch(self._id, tags=[RunTag(n, v) for n, v in tags.items()])

    def keep(self) -> Mapping[str, Any]:
        """The file of the store, to go on from any folder; an address might hold a password."""
        return {"uri": self._uri} if self._uri.startswith(_SQLITE) else {}

    def log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Log what the run lacks, a row in one transaction."""
        for row in rows:
            self._metrics(int(row["epoch"]), row)

    def evaluation(self, record: EvaluationRecord) -> None:
        """Log its metrics, and its files as artefacts."""
        named = {metric_name(record, name): value for name, value in record.metrics.items()}
        self._metrics(record.step, named)
        for file in (*record.images, *record.files):
            self._client.log_artifact(self._id, file, f"evaluate/{record.name}")

    def end(self, status: Status) -> None:
        """Say how the training ended."""
        if self._trains:
            self._client.set_terminated(self._id, _STATUS[status])

    def _find(self, experiment: str, fold: TrackedFold) -> str:
        found = self._client.get_experiment_by_name(experiment)
        number = (
            self._client.create_experiment(experiment) if found is None else found.experiment_id
        )
        runs = self._client.search_runs([number], f"tags.`{KEY_TAG}` = '{fold.key}'")
        if runs:
            return str(runs[0].info.run_id)
        run = self._client.create_run(number, tags={KEY_TAG: fold.key}, run_name=fold.name)
        return str(run.info.run_id)

    def _metrics(self, step: int, values: Mapping[str, float]) -> None:
        now_ms = int(time.time() * 1000)
        new = [
            Metric(name, value, now_ms, step)
            for name, value in values.items()
            if self._logged.get(name, {}).get(step) != value
        ]
        if new:
            self._client.log_batch(self._id, metrics=new)
        for metric in new:
            self._logged.setdefault(metric.key, {})[step] = metric.value

    def _values(self, name: str) -> dict[int, float]:
        history = self._client.get_metric_history(self._id, name)
        return {metric.step: metric.value for metric in sorted(history, key=lambda m: m.timestamp)}


def _give_up_early() -> None:
    """Wait seconds for a server that is gone, not a quarter of an hour, unless told otherwise."""
    for variable, value in (
        (MLFLOW_HTTP_REQUEST_MAX_RETRIES, 2),
        (MLFLOW_HTTP_REQUEST_TIMEOUT, 20),
    ):
        if not variable.is_set():
            variable.set(value)


def _store(kept: Mapping[str, Any]) -> str:
    """The store's address; of a file with its whole path, so that it is found from any folder."""
    if "uri" in kept and not os.environ.get("MLFLOW_TRACKING_URI"):
        return str(kept["uri"])
    uri = str(mlflow.get_tracking_uri())
    path = uri.removeprefix(_SQLITE)
    return uri if path == uri else f"{_SQLITE}{Path(path).absolute()}"
