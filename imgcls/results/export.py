"""What an export leaves: the files of each format, and what vouches for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgcls.results.comparison import Difference, Interval
from imgcls.results.record import Record


@dataclass(frozen=True)
class BatchProof(Record):
    """How an exported model answers to batches of one size, beside its checkpoint.

    pictures: how many were compared; resized: how many of them as copies of another size.
    top_1_agreement: the share with the same class; ties: those of the others whose two classes are
    as likely, within the limit. largest_difference: of a probability.
    """

    batch_size: int
    pictures: int
    resized: int
    top_1_agreement: float
    ties: int
    largest_difference: float


@dataclass(frozen=True)
class RuntimeProof(Record):
    """How an exported model, run by its own runtime, answers beside its checkpoint.

    pictures: how many there were, of the split `split` of the run or of the embedded `digits`;
    stand_in: why of these. limit: what a probability may differ by. top_1_agreement, ties,
    largest_difference: over all batches, see BatchProof. largest_at: the picture whose
    probabilities differ most.
    """

    pictures: int
    split: str
    limit: float
    top_1_agreement: float
    ties: int
    largest_difference: float
    largest_at: str
    batches: tuple[BatchProof, ...]
    stand_in: str | None = None


@dataclass(frozen=True)
class BatchSpeed(Record):
    """The fastest of many runs in turn, in ms a batch; ratio: how many times as fast int8 is."""

    batch_size: int
    fp32_ms: float
    int8_ms: float
    ratio: float


@dataclass(frozen=True)
class QuantizationProof(Record):
    """What int8 changes beside the same model in float32, both run by ONNX Runtime.

    fp32: how the file in float32 that it was made of answers beside the checkpoint. int8_weights:
    how many tensors of them there are. calibrated_on: train pictures. pictures: of val, which both
    scored. accuracy: this is int8's, other fp32's. drop, interval: what accuracy loses, in points,
    with its 95% interval; allowed: `--max-drop`. top_1_agreement: the share with the same class.
    mean_difference, largest_difference: over the pictures, of the probability that differs most.
    """

    fp32: RuntimeProof
    int8_weights: int
    calibrated_on: int
    pictures: int
    accuracy: Difference
    drop: float
    interval: Interval
    allowed: float
    top_1_agreement: float
    mean_difference: float
    largest_difference: float
    largest_at: str
    speed: tuple[BatchSpeed, ...]

    @property
    def can_be_more(self) -> bool:
        """Whether so few pictures let it lose more than is allowed without being seen."""
        return self.interval[1] > self.allowed


@dataclass(frozen=True)
class WeightsProof(Record):
    """Weights that were read back: so many tensors of so many bytes, each equal to the byte."""

    tensors: int
    tensor_bytes: int
    equal: bool


@dataclass(frozen=True)
class ExportedModel(Record):
    """One format: the main file, the folder that it lies in, and what vouches for it.

    profile: None where the format has no graph. files: the size and SHA-256 of each file by its
    name. metadata: what is written into it.
    """

    format: str
    profile: str | None
    file: Path
    folder: Path
    files: Mapping[str, Mapping[str, Any]]
    proof: Record
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class ExportReport(Record):
    """What `imgcls export` has written."""

    checkpoint: Path
    model_name: str
    class_names: tuple[str, ...]
    output: Path
    exports: tuple[ExportedModel, ...]
    notes: tuple[str, ...] = ()
