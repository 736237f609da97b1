"""What a training returns, and what it is going to do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgcls.results.audit import AuditPicture
from imgcls.results.checkpoint import StartingWeights
from imgcls.results.evaluation import EvalReport
from imgcls.results.record import Record


@dataclass(frozen=True)
class FoldResult(Record):
    """One trained fold: where it lies and how its best epoch scored on validation.

    share: None, or the best weights are this share of the way from the fitted classifier's to those
    of best_epoch, the last one.
    """

    fold: int
    folder: Path
    best_checkpoint: Path
    last_checkpoint: Path
    best_epoch: int
    epochs_run: int
    monitor: str
    best_metrics: dict[str, float | None]
    val_pictures: int
    stopped_early: bool
    elapsed_s: float
    share: float | None = None


@dataclass(frozen=True)
class TrainResult(Record):
    """A trained run: its folder, its folds, and (with k-fold) the summary across them.

    bad_images: pictures that could not be read and were left out. model_choice: what `--model auto`
    found, as a ModelChoice's JSON. members: of an ensemble, its runs; it has no folds of its own.
    average: how the average of their probabilities scores on test, None without a test split.
    """

    run: Path
    model_name: str
    class_names: tuple[str, ...]
    folds: tuple[FoldResult, ...]
    summary: dict[str, Any] | None = None
    bad_images: int = 0
    model_choice: dict[str, Any] | None = None
    members: tuple[TrainResult, ...] = ()
    average: EvalReport | None = None


@dataclass(frozen=True)
class PreflightReport(Record):
    """What the check before training found.

    leaks: pictures with an identical copy in another split or fold; conflicts: with one under
    another label. read: how many were read, since of very many only some are. started: when, in
    ISO 8601.
    """

    pictures: int
    unreadable: tuple[AuditPicture, ...]
    leaks: int
    conflicts: int
    elapsed_s: float
    read: int
    started: str


@dataclass(frozen=True)
class PlanReport(Record):
    """What a training is going to do. Counts per class and split are those of the first fold.

    memory_mib: at the peak, of the process on a CPU, of the device on cuda; memory_by: how that is
    known. expected_s: about how long all folds take, with all their epochs. These are None unless
    they were measured for the plan, and parameters_* unless the model was built for it. processes:
    among how many each batch is divided.
    """

    data: str
    splitter: str
    folds: tuple[int, ...]
    k_folds: int
    class_names: tuple[str, ...]
    class_counts: dict[str, dict[str, int]]
    model_name: str
    start: str
    starting_weights: StartingWeights
    recipe: str
    img_size: int
    parameters_trainable: int | None
    parameters_total: int | None
    opt: str
    lr: float
    batch_size: int
    grad_accum: int
    epochs: int
    steps_per_epoch: int
    total_steps: int
    monitor: str
    imbalance: str
    imbalance_ratio: float
    unbalanced: bool
    device: str
    device_name: str
    amp: str
    workers: int
    memory_mib: float | None
    memory_by: str | None
    expected_s: float | None
    output: Path
    reasons: tuple[str, ...] = ()
    preflight: PreflightReport | None = None
    notes: tuple[str, ...] = ()
    processes: int = 1


@dataclass(frozen=True)
class ImportReport(Record):
    """What became of another trainer's file.

    layout: whose it is, in words. run: the run around the checkpoint, where there were data. epoch:
    how many epochs are behind it, None where the file does not say; epochs: of how many, where it
    can be resumed. metrics: those that the file holds; validation: those of the run's val split.
    preprocessing: the input, in timm's words. facts: what was found, by its title. notes: what the
    user should know or check.
    """

    file: Path
    sha256: str
    layout: str
    checkpoint: Path
    run: Path | None
    model_name: str
    class_names: tuple[str, ...]
    epoch: int | None
    epochs: int | None
    metrics: dict[str, float]
    validation: dict[str, float | None] | None
    val_pictures: int
    preprocessing: dict[str, Any]
    facts: dict[str, str]
    notes: tuple[str, ...] = ()
