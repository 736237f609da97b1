"""What trackers hold of a run, read back."""

from __future__ import annotations

import csv
from pathlib import Path

import mlflow


def history_of(run: Path, fold: int = 0) -> dict[str, dict[int, float]]:
    """The columns of history.csv that have values: name -> epoch -> value."""
    with (run / f"fold_{fold}" / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    columns = {
        name: {int(row["epoch"]): float(row[name]) for row in rows if row[name]} for name in rows[0]
    }
    return {name: values for name, values in columns.items() if values}


def mlflow_run(uri: str) -> tuple[mlflow.MlflowClient, mlflow.entities.Run, dict[str, list]]:
    """The only run of the store, and its metrics: name -> [(step, value), ...]."""
    client = mlflow.MlflowClient(tracking_uri=uri)
    [found] = client.search_runs([client.get_experiment_by_name("imgcls").experiment_id])
    metrics = {
        name: [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, name)]
        for name in found.data.metrics
    }
    return client, found, metrics
