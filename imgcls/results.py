"""Frozen records that jobs return: one value for the screen, the JSON and the Python API."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any


def to_plain(value: Any) -> Any:
    """The value as strict-JSON types: dataclasses become dicts, paths strings, nan and inf None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


@dataclass(frozen=True)
class Record:
    """Base of the records; `to_json()` gives strict-JSON types."""

    def to_json(self) -> dict[str, Any]:
        """The record as a dict of strict-JSON types."""
        plain: dict[str, Any] = to_plain(self)
        return plain


@dataclass(frozen=True)
class FoldResult(Record):
    """One trained fold: where it lies and how its best epoch scored on validation."""

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


@dataclass(frozen=True)
class TrainResult(Record):
    """A trained run: its folder, its folds, and (with k-fold) the summary across them.

    bad_images: pictures that could not be read and were left out.
    """

    run: Path
    model_name: str
    class_names: tuple[str, ...]
    folds: tuple[FoldResult, ...]
    summary: dict[str, Any] | None = None
    bad_images: int = 0


@dataclass(frozen=True)
class AuditPicture(Record):
    """One picture that the audit names; `note` says what of it, where that is not plain."""

    path: str
    label: str
    split: str | None = None
    group: str | None = None
    note: str = ""


@dataclass(frozen=True)
class EvalReport(Record):
    """One evaluated split. `metrics` may hold None; `undefined` then says why, by metric name.

    confusion_matrix: rows true, columns predicted; () beyond 2,000 classes.
    confusions: the commonest mistakes.
    intervals: (low, high) by metric name, made as `intervals_method` says.
    calibration: the temperature that the logits were divided by, with `before` and `after` it.
    cross_validation: mean, std and interval over the folds; the report is of their pooled pictures.
    ensemble: the folds and views that were averaged, and their gain.
    fold: "all" where several took part.
    coverage: accuracy when only confident pictures are answered.
    operating_points: each class's threshold of highest F1.
    costs: what decisions cost by `--costs`.
    slices: rows by `--by` column.
    comparison: against another checkpoint.
    corruptions: scores on worse pictures.
    gates: the marks of `--fail-under` and whether they were reached.
    prior: how common the model takes each class to be ("shares", by class) and the method of
    `--imbalance` that made it so; None for a checkpoint that does not say.
    bad_images: pictures that could not be read and were left out, each with the reason as its note.
    trained_on: how many of the `pictures` the model was trained on (`train`) or chosen by (`val`),
    told by content, null with its `reason` where that is not known; `not_compared`: training and
    val pictures without a known content; `excluded`: pictures left out for it.
    data: what opens the pictures again, `source` and the options of reading it.
    page: report.html, where it was made.
    """

    checkpoint: Path
    model_name: str
    split: str
    fold: int | str
    data: dict[str, Any]
    metrics: dict[str, Any]
    speed_metrics: dict[str, Any]
    undefined: dict[str, str]
    class_names: tuple[str, ...]
    per_class: tuple[dict[str, Any], ...]
    confusion_matrix: tuple[tuple[int, ...], ...]
    confusions: tuple[dict[str, Any], ...] = ()
    folder: Path | None = None
    page: Path | None = None
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    intervals_method: str | None = None
    calibration: dict[str, Any] | None = None
    cross_validation: dict[str, Any] | None = None
    ensemble: dict[str, Any] | None = None
    coverage: list[dict[str, Any]] = field(default_factory=list)
    operating_points: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, Any] | None = None
    slices: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    comparison: dict[str, Any] | None = None
    corruptions: dict[str, Any] | None = None
    gates: dict[str, dict[str, Any]] = field(default_factory=dict)
    bad_images: tuple[AuditPicture, ...] = ()
    notes: tuple[str, ...] = ()
    prior: dict[str, Any] | None = None
    trained_on: dict[str, Any] | None = None


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
class PageReport(Record):
    """The page and the pictures (PNG; an SVG lies beside each) made of an evaluated split."""

    page: Path
    pictures: tuple[Path, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlanReport(Record):
    """What a training is going to do. Counts per class and split are those of the first fold.

    parameters_* and memory_mib (a guess) are None unless the model was built for the plan.
    """

    data: str
    splitter: str
    folds: tuple[int, ...]
    k_folds: int
    class_names: tuple[str, ...]
    class_counts: dict[str, dict[str, int]]
    model_name: str
    start: str
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
    output: Path
    reasons: tuple[str, ...] = ()
    preflight: PreflightReport | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrialRecord(Record):
    """One trial of a search. `value` is the best epoch's, by the search's metric.

    state: complete, pruned, failed (then `error` says why), running or waiting. `run` is the name
    of its run in the study's folder. With k-fold, `value` is the mean over the folds.
    """

    number: int
    state: str
    value: float | None
    params: dict[str, Any]
    epochs: int
    elapsed_s: float
    run: str | None
    is_start: bool = False
    error: str | None = None


@dataclass(frozen=True)
class TuneResult(Record):
    """A search: its trials by number, the best one, and what mattered.

    start: the trial of the settings that the search began from, where it came to its end.
    importances: each parameter's share of the differences, summing to 1; empty with too few trials.
    best_config: a config file that trains the best trial again. command: goes on with the search.
    """

    study: Path
    metric: str
    trials: tuple[TrialRecord, ...]
    best: TrialRecord
    start: TrialRecord | None
    importances: dict[str, float]
    best_config: Path
    command: str


@dataclass(frozen=True)
class ModelEntry(Record):
    """One architecture of the catalogue. `parameters` counts with timm's own classifier."""

    name: str
    family: str
    parameters: int
    input_size: tuple[int, int, int]
    pretrained_tags: tuple[str, ...]


@dataclass(frozen=True)
class Finding(Record):
    """One thing wrong with a data set.

    kind: its name, such as "leak". harm: "high" spoils training or its scores, "medium" may,
    "low" is good to know. pictures: how many it concerns. sets: the pictures, those together that
    belong together; class_names: the classes, where it concerns whole classes.
    """

    kind: str
    harm: str
    title: str
    advice: str
    pictures: int = 0
    sets: tuple[tuple[AuditPicture, ...], ...] = ()
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditReport(Record):
    """What `imgcls inspect` found, findings in order of harm.

    class_counts: pictures by class and split ("" where the data gives none). widths, heights:
    smallest, median and largest in pixels, as stored, or None when nothing could be read.
    bit_depth: what pictures of more than eight bits hold, in words; None without any.
    """

    data: str
    pictures: int
    class_names: tuple[str, ...]
    class_counts: dict[str, dict[str, int]]
    groups: int | None
    modes: dict[str, int]
    formats: dict[str, int]
    widths: tuple[int, int, int] | None
    heights: tuple[int, int, int] | None
    findings: tuple[Finding, ...]
    elapsed_s: float
    notes: tuple[str, ...] = ()
    fixed_manifest: Path | None = None
    fixed: dict[str, int] = field(default_factory=dict)
    html: Path | None = None
    bit_depth: str | None = None
