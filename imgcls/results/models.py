"""What `imgcls list-models` lists, and what `--model auto` chose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imgcls.results.comparison import Estimate
from imgcls.results.record import Record


@dataclass(frozen=True)
class ModelEntry(Record):
    """One architecture of the catalogue. `parameters` counts with timm's own classifier.

    licences: of each tag's weights, as their publisher names it; None where timm states none.
    default_tag: the weights that the plain name takes; None where there are none at all.
    """

    name: str
    family: str
    parameters: int
    input_size: tuple[int, int, int]
    pretrained_tags: tuple[str, ...]
    licences: Mapping[str, str | None]
    default_tag: str | None


@dataclass(frozen=True)
class Candidate(Record):
    """A model to choose from, as far as it was measured.

    weights: the file it starts from, `hub`, or `random` from scratch. parameters: with a classifier
    for the data's classes. macs: multiply-accumulates for a picture, None where they cannot be
    counted. latency_ms: the median of single pictures. features_s, fitting_s: what computing the
    features and cross-validating the classifier on them took. behind: by how much its log loss
    exceeds the least one's, paired over the pictures. left_out: why nothing more is known.
    """

    name: str
    weights: str | None = None
    input_size: tuple[int, int, int] | None = None
    parameters: int | None = None
    macs: int | None = None
    latency_ms: float | None = None
    features_s: float | None = None
    fitting_s: float | None = None
    balanced_accuracy: Estimate | None = None
    log_loss: Estimate | None = None
    behind: Estimate | None = None
    left_out: str | None = None


@dataclass(frozen=True)
class ModelChoice(Record):
    """Which of several models was chosen to be trained, and by what.

    ensemble: all that are trained, where several are, the chosen one among them. candidates:
    cheapest first, then those that were left out. pictures: how many the features were computed of,
    of `of` that are trained on; folds: those of the cross-validation. reason: why this one, in a
    sentence. elapsed_s: of all of it. notes: what to know of the choice.
    """

    chosen: str
    ensemble: tuple[str, ...]
    reason: str
    candidates: tuple[Candidate, ...]
    pictures: int
    of: int
    folds: int
    device: str
    elapsed_s: float
    notes: tuple[str, ...] = ()
