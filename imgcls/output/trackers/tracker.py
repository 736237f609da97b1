"""What a tracker is told of a fold, and which trackers there are."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from imgcls.config.load import flattened
from imgcls.config.run import TrainConfig

Status = Literal["finished", "stopped", "failed"]

# a tracker is a module beside this one with a class, a line here, and a word of `--log`
_CLASSES = {
    "tensorboard": "TensorBoard",
    "mlflow": "Mlflow",
    "wandb": "Wandb",
    "trackio": "Trackio",
}


@dataclass(frozen=True)
class TrackedFold:
    """The fold that a tracked run is of.

    key: finds its tracked run again. group: what its folds, or the trials of a search, share.
    epoch: the last one that a checkpoint holds. hyperparameters: the options, by dotted name, lists
    with commas. kept: what the tracker asked to keep.
    """

    key: str
    name: str
    group: str
    folder: str
    epoch: int
    hyperparameters: Mapping[str, Any]
    tags: Mapping[str, str]
    trains: bool = True
    kept: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fold as plain JSON types."""
        return asdict(self)


@dataclass(frozen=True)
class EvaluationRecord:
    """One evaluation, as trackers log it. name: of its folder; step: the epoch of the checkpoint.

    metrics: those that are defined. images: PNG files; files: all others worth keeping.
    """

    name: str
    step: int
    metrics: Mapping[str, float]
    images: Sequence[str]
    files: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return asdict(self)


class Tracker(Protocol):
    """One fold's tracked run, begun or gone on with when it is made. Its calls may raise anything.

    It lives in a process of its own: see `worker`.
    """

    def keep(self) -> Mapping[str, Any]:
        """What finds the tracked run again, beyond the fold's key."""

    def log(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Log rows of history.csv that are not logged yet; each names its `epoch`, the step."""

    def evaluation(self, record: EvaluationRecord) -> None:
        """Log an evaluation of the fold."""

    def end(self, status: Status) -> None:
        """Write out all that was logged."""


def tracked_fold(
    folder: Path,
    config: TrainConfig,
    key: str,
    epoch: int,
    about: Mapping[str, str],
    *,
    trains: bool = True,
) -> TrackedFold:
    """What trackers are told of a fold. about: what made it, beyond the config."""
    run, several = folder.resolve().parent, config.data.folds > 0
    name = f"{run.name}/{folder.name}" if several else run.name
    return TrackedFold(
        key=key,
        name=name,
        group=run.name if several else run.parent.name,
        folder=str(folder.resolve()),
        epoch=epoch,
        hyperparameters={
            option: ",".join(map(str, value)) if isinstance(value, list) else value
            for option, value in flattened(config.model_dump(mode="json")).items()
        },
        tags={
            "run": str(run),
            "fold": folder.name.rpartition("_")[2],
            "model": config.model.name,
            **about,
        },
        trains=trains,
    )


def open_tracker(name: str, fold: TrackedFold) -> Tracker:
    """The tracker of this name, its run begun or found."""
    module = importlib.import_module(f"imgcls.output.trackers.{name}")
    tracker: Tracker = getattr(module, _CLASSES[name])(fold)
    return tracker


def metric_name(record: EvaluationRecord, metric: str) -> str:
    """The name of an evaluation's metric, which no column of history.csv has."""
    return f"evaluate/{record.name}/{metric}"


def image_name(record: EvaluationRecord, file: str) -> str:
    """The name of an evaluation's picture."""
    return f"evaluate/{record.name}/{Path(file).stem}"
