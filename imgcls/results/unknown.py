"""What an evaluation says of sets of classes, and of pictures unlike those of training."""

from __future__ import annotations

from dataclasses import dataclass, field

from imgcls.results.comparison import Interval
from imgcls.results.record import Record


@dataclass(frozen=True)
class ConformalClass(Record):
    """How often the sets of a class's pictures hold it, and how large they are on average.

    own: whether it has a threshold of its own; else it is covered together with others only.
    """

    class_name: str = field(metadata={"key": "class"})
    pictures: int
    coverage: float | None
    mean_size: float | None
    own: bool


@dataclass(frozen=True)
class Conformal(Record):
    """Sets of classes that are to hold the right one with the probability `wanted`.

    fitted_on: val pictures; units: how many of them are independent, groups where there are any.
    coverage: the share of the scored pictures whose set does, and its 95% interval; macro_coverage:
    the mean over the classes. single: the share of sets of one class. marginal_only: classes with
    too few val pictures for a threshold of their own.
    """

    wanted: float
    fitted_on: int
    units: int
    pictures: int
    coverage: float
    interval: Interval | None
    macro_coverage: float
    mean_size: float
    single: float
    marginal_only: tuple[str, ...]
    classes: tuple[ConformalClass, ...]


@dataclass(frozen=True)
class UnlikeClass(Record):
    """How many of a class's val pictures are caught by what knows the other classes only."""

    class_name: str = field(metadata={"key": "class"})
    pictures: int
    caught: float


@dataclass(frozen=True)
class Unlike(Record):
    """How often pictures are called unlike the training pictures, beyond a distance of features.

    rate: the share of false alarms that it may have; trained: training pictures, fitted_on: val
    pictures, units: how many of these are independent. false_alarms: of the scored pictures, with
    its 95% interval. caught: the mean over the classes that were left out, one at a time.
    """

    rate: float
    threshold: float
    trained: int
    fitted_on: int
    units: int
    pictures: int
    false_alarms: float
    interval: Interval | None
    caught: float | None
    classes: tuple[UnlikeClass, ...]
