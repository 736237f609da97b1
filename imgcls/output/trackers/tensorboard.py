"""TensorBoard's event files, in the fold's own folder.

fold_0/tensorboard/   `tensorboard --logdir outputs` shows all runs
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from imgcls.config.files import read_bytes
from imgcls.output.trackers.tracker import (
    EvaluationRecord,
    Status,
    TrackedFold,
    image_name,
    metric_name,
)

FOLDER = "tensorboard"


class TensorBoard:
    """Scalars as float32, which is what TensorBoard keeps; steps beyond the fold's are purged."""

    def __init__(self, fold: TrackedFold) -> None:
        folder = Path(fold.folder) / FOLDER
        self._logged = read_scalars(folder)
        self._writer = EventFileWriter(str(folder))
        if any(step > fold.epoch for steps in self._logged.values() for step in steps):
            start = SessionLog(status=SessionLog.START)
            self._add(fold.epoch + 1, session_log=start)
            self._logged = {
                name: {step: value for step, value in steps.items() if step <= fold.epoch}
                for name, steps in self._logged.items()
            }
        if not self._logged:
            self._add(0, summary=hparams_pb(_plain(fold.hyperparameters), trial_id=fold.key))
            text = "\n".join(f"    {name}: {value}" for name, value in fold.tags.items())
            self._add(0, summary=_text("run", text))
        self._writer.flush()

    def keep(self) -> Mapping[str, Any]:
        """Nothing: the files lie with the fold."""
        return {}

    def log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Add what the files do not say yet."""
        for row in rows:
            self._scalars(int(row["epoch"]), row)

    def evaluation(self, record: EvaluationRecord) -> None:
        """Add its metrics and pictures, and where its page lies."""
        self._scalars(
            record.step, {metric_name(record, name): v for name, v in record.metrics.items()}
        )
        for file in record.images:
            with Image.open(file) as opened:
                width, height = opened.size
            content = read_bytes(Path(file))
            picture = Summary.Image(
                height=height, width=width, colorspace=3, encoded_image_string=content
            )
            value = Summary.Value(tag=image_name(record, file), image=picture)
            self._add(record.step, summary=Summary(value=[value]))
        if record.files:
            text = "\n".join(f"    {file}" for file in record.files)
            self._add(record.step, summary=_text(f"evaluate/{record.name}/files", text))
        self._writer.flush()

    def end(self, status: Status) -> None:  # noqa: ARG002  TensorBoard knows none
        """Close the file."""
        self._writer.close()

    def _scalars(self, step: int, values: Mapping[str, float]) -> None:
        new = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
            if self._logged.get(name, {}).get(step) != np.float32(value)
        ]
        if new:
            self._add(step, summary=Summary(value=new))
            self._writer.flush()
        for value in new:
            self._logged.setdefault(value.tag, {})[step] = np.float32(value.simple_value)

    def _add(self, step: int, **content: Any) -> None:
        self._writer.add_event(Event(wall_time=time.time(), step=step, **content))


def read_scalars(folder: Path) -> dict[str, dict[int, np.float32]]:
    """The scalars in a folder's event files: tag -> step -> value, the last where there are two."""
    if not folder.is_dir():
        return {}
    # 0 keeps all of them
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: {event.step: np.float32(event.value) for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def _plain(hyperparameters: Mapping[str, Any]) -> dict[str, bool | float | str]:
    return {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in hyperparameters.items()
    }


def _text(tag: str, text: str) -> Summary:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
    tensor.tensor_shape.dim.add(size=1)
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])
