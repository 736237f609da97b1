"""Two models on the same pictures, and what a model has seen of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from imgcls.results.record import Record

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference(Record):
    """One metric of two models on the same pictures; interval: 95%, of the difference."""

    this: float
    other: float
    difference: float
    interval: Interval | None


@dataclass(frozen=True)
class TrainedOn(Record):
    """How many of the pictures a model was trained on (train), or chosen by (val); by content.

    None where that is not known, for the reason. not_compared: training and val pictures without a
    known content. excluded: pictures left out because they were seen.
    """

    pictures: int
    train: int | None
    val: int | None
    not_compared: int
    reason: str | None
    excluded: int


@dataclass(frozen=True)
class McNemar(Record):
    """Pictures that only one of two models has right, and the exact two-sided p-value."""

    only_this_right: int
    only_other_right: int
    p_value: float


@dataclass(frozen=True)
class RecallChange(Record):
    """A class's recall by two models; support: its pictures."""

    class_name: str = field(metadata={"key": "class"})
    support: int
    this: float
    other: float
    difference: float


@dataclass(frozen=True)
class ChangedPicture(Record):
    """A picture that one of two models has right and the other wrong."""

    path: str
    label: str
    this: str
    other: str
    now_right: bool


@dataclass(frozen=True)
class Comparison(Record):
    """Another model on the same pictures; every difference is this model's minus the other's.

    per_class: the greatest change first. trained_on: what the other has seen of the pictures.
    """

    checkpoint: Path
    model_name: str
    metrics: dict[str, Difference]
    mcnemar: McNemar
    per_class: tuple[RecallChange, ...]
    changed: tuple[ChangedPicture, ...]
    trained_on: TrainedOn


@dataclass(frozen=True)
class Estimate(Record):
    """A mean over pictures, or over classes, with its standard error."""

    value: float
    error: float
