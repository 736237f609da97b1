"""What is known of a model: what its card says, and its limits follow from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imgcls.results.checkpoint import StartingWeights

RGB = 3


@dataclass(frozen=True)
class Scores:
    """What is known of how well the model does, on so many pictures of a split.

    rows: metric, value, interval. method: of the intervals. report: test_metrics.json, where the
    split was evaluated; else the numbers are those that training took down of its best epoch.
    per_class, confusions: as in `Evaluation`.
    """

    split: str
    pictures: int
    rows: Sequence[tuple[str, float | None, Sequence[float] | None]]
    method: str | None = None
    report: Mapping[str, Any] | None = None
    per_class: Sequence[Mapping[str, Any]] = ()
    confusions: Sequence[tuple[int, int, int]] = ()


@dataclass(frozen=True)
class TrainingData:
    """The pictures of the run; counts, groups and findings are empty where it lies elsewhere.

    name: without the folders around it. counts: rows of class and pictures a split. groups: how
    many there are. copies: pictures with an identical one in another split; None where that was not
    looked for. findings: of the check before training, see RunFacts. fold: of so many `folds`,
    where there are any.
    """

    name: str | None = None
    counts: Sequence[Mapping[str, Any]] = ()
    groups: int | None = None
    copies: int | None = None
    findings: Sequence[tuple[str, str]] = ()
    splitter: str | None = None
    fold: int = 0
    folds: int = 0
    fingerprint: str | None = None


@dataclass(frozen=True)
class ModelDescription:
    """A model, as its card describes it.

    input_size: channels, height, width. base_model: the repository of the weights that it began
    with. temperature: 1 where none is kept, else fitted on `fitted_on`; temperature_note: what to
    know of it. imbalance: its method.
    recipe: what it was trained by, as lines of a table. command: repeats it. decoding: what is said
    of its pictures beyond their size. versions: of what trained it.
    """

    model_name: str
    class_names: Sequence[str]
    input_size: tuple[int, int, int]
    weights: StartingWeights
    data: TrainingData
    scores: Scores | None
    base_model: str | None = None
    temperature: float = 1.0
    fitted_on: str = ""
    temperature_note: str | None = None
    imbalance: str = "none"
    recipe: Sequence[tuple[str, str]] = ()
    command: str | None = None
    decoding: Sequence[str] = ()
    versions: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def takes_rgb(self) -> bool:
        """True where other programs' pictures are what the model takes."""
        return self.input_size[0] == RGB
