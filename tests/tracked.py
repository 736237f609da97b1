"""What trackers hold of a run, read back."""

from __future__ import annotations

import csv
import json
import sqlite3
import struct
from collections.abc import Iterator
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


def trackio_rows(folder: Path) -> list[tuple[str, str, int, dict]]:
    """(key, name, step, values) of all that Trackio has in its folder."""
    with sqlite3.connect(folder / "imgcls.db") as database:
        rows = database.execute("select run_id, run_name, step, metrics from metrics order by id")
        return [(key, name, step, json.loads(values)) for key, name, step, values in rows]


def wandb_history(file: Path) -> Iterator[dict]:
    """The rows of history in one offline run of wandb, which is a log as LevelDB writes it."""
    from wandb.proto import wandb_internal_pb2

    content, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        whole = content[at + 7 : at + 7 + length] if kind in (1, 2) else (
            whole + content[at + 7 : at + 7 + length]
        )  # fmt: skip
        at += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record.FromString(whole)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                yield {i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in items}
