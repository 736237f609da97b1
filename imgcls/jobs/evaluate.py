"""Score a checkpoint on a split, from what the checkpoint and its run say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from imgcls.config.evaluate import EvaluateConfig
from imgcls.config.run import TrainConfig
from imgcls.data.loader import EvalLoader, resolve_workers
from imgcls.data.open import open_source
from imgcls.data.source import SampleTable
from imgcls.data.split import assignment_from_rows
from imgcls.data.transforms import eval_transform
from imgcls.engine.batches import Batch, ComputeSettings, Normalizer
from imgcls.engine.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, read_checkpoint
from imgcls.engine.inference import InferencePass, predict
from imgcls.engine.runtime import amp_name
from imgcls.errors import CheckpointError, ConfigError, DataError, OutputError, RunError
from imgcls.jobs.assemble import compute_settings
from imgcls.jobs.runs import SPLITS, newest_run_with_checkpoint, run_of
from imgcls.metrics.calculator import MetricsCalculator, MetricSet
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.speed import speed_metrics
from imgcls.models.card import model_from_card, preprocessing_from_card
from imgcls.report.files import read_csv, write_evaluation
from imgcls.results import EvalReport


@dataclass(frozen=True, eq=False)
class Pictures:
    """The rows of a table to score, with labels in the model's order of classes."""

    table: SampleTable
    indices: np.ndarray
    split: str
    notes: tuple[str, ...] = ()


def evaluate(
    config: EvaluateConfig, on_batch: Callable[[int, int], None] = lambda _done, _total: None
) -> EvalReport:
    """Score a checkpoint and write its files below the fold's `test_results/`.

    on_batch is told (batches done, batches in all). Raises CheckpointError, DataError, RunError or
    DeviceError before anything is scored.
    """
    compute = compute_settings(config.device, config.amp, channels_last=config.channels_last)
    path = config.checkpoint or newest_run_with_checkpoint(config.output)
    folder = find_checkpoint(path, config.fold)
    checkpoint = read_checkpoint(folder)
    pictures = _pictures(config, checkpoint)
    report, predictions = score(
        checkpoint,
        pictures,
        compute,
        batch_size=config.batch_size,
        workers=config.workers,
        on_batch=on_batch,
    )
    try:
        assert report.folder is not None
        write_evaluation(report.folder, report, predictions)
    except OSError as error:
        raise OutputError(f"{report.folder}: cannot be written ({error.strerror})") from error
    return report


def evaluate_model(
    model: nn.Module,
    batches: Iterable[Batch],
    normalizer: Normalizer,
    compute: ComputeSettings,
    class_names: Sequence[str],
    *,
    on_batch: Callable[[int], None] = lambda _samples: None,
) -> tuple[MetricSet, InferencePass]:
    """All metrics of a model over batches of pictures, and the pass they come from."""
    result = predict(model, batches, normalizer, compute, on_batch)
    return MetricsCalculator(class_names).compute(result.predictions), result


def score(
    checkpoint: Checkpoint,
    pictures: Pictures,
    compute: ComputeSettings,
    *,
    batch_size: int,
    workers: int | str,
    on_batch: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[EvalReport, Predictions]:
    """The report and the predictions of a verified checkpoint on some pictures."""
    model = model_from_card(checkpoint.card)
    load_checkpoint(model, checkpoint.folder)
    model = compute.place(model)
    facts = preprocessing_from_card(checkpoint.card)
    batches = EvalLoader(
        pictures.table,
        pictures.indices,
        eval_transform(facts),
        batch_size=batch_size,
        workers=resolve_workers(
            workers,
            in_memory=pictures.table.defaults.in_memory,
            device_type=compute.device.type,
        ),
        device_type=compute.device.type,
    )
    done = 0

    def count(_samples: int) -> None:
        nonlocal done
        done += 1
        on_batch(done, len(batches))

    metrics, result = evaluate_model(
        model,
        batches,
        Normalizer(facts.mean, facts.std, compute),
        compute,
        checkpoint.class_names,
        on_batch=count,
    )
    speed = speed_metrics(result.batch_times_s, result.batch_sizes, str(compute.device))
    report = EvalReport(
        checkpoint=checkpoint.folder,
        model_name=str(checkpoint.facts.get("model_name", checkpoint.card["architecture"])),
        split=pictures.split,
        fold=checkpoint.fold,
        metrics=metrics.metrics,
        speed_metrics={**speed, "precision": amp_name(compute.precision)},
        undefined=metrics.undefined,
        class_names=checkpoint.class_names,
        per_class=metrics.per_class,
        confusion_matrix=metrics.confusion_matrix,
        folder=_results_folder(checkpoint.folder) / pictures.split,
        notes=pictures.notes,
    )
    return report, result.predictions


def run_pictures(checkpoint: Checkpoint, split: str) -> Pictures:
    """The pictures of a split of the run that the checkpoint lies in, by its splits.csv.

    Raises DataError when the split has none or the data has changed, RunError outside a run.
    """
    run = run_of(checkpoint.folder)
    if run is None:
        raise RunError(
            f"{checkpoint.folder}: lies outside its run, so the split is not known; say which "
            "pictures to score with --data"
        )
    try:
        config = TrainConfig.model_validate(checkpoint.facts["config"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.folder}: the sidecar's config is not usable") from error
    table = open_source(config.data.source).relabel(checkpoint.class_names)
    assignment = assignment_from_rows(table, read_csv(run / SPLITS))
    fold = checkpoint.fold
    indices = assignment.indices(split, fold)
    if not len(indices):
        present = [s for s in ("train", "val", "test") if len(assignment.indices(s, fold))]
        raise DataError(
            f"--split {split}: this run has no {split} pictures; it has {', '.join(present)}"
        )
    return Pictures(table, indices, split)


def _pictures(config: EvaluateConfig, checkpoint: Checkpoint) -> Pictures:
    if config.data is None:
        return run_pictures(checkpoint, config.split)
    table = open_source(config.data).relabel(checkpoint.class_names)
    if table.splits is None:
        note = f"all {len(table)} pictures of {config.data} are scored; it has no split folders"
        return Pictures(table, np.arange(len(table)), _data_name(table), (*table.notes, note))
    indices = np.flatnonzero(np.array([s == config.split for s in table.splits]))
    if not len(indices):
        present = sorted({s for s in table.splits if s})
        raise ConfigError(
            f"--split {config.split}: {config.data} has no such split folder; it has "
            f"{', '.join(present)}"
        )
    return Pictures(table, indices, f"{_data_name(table)}-{config.split}", table.notes)


def _data_name(table: SampleTable) -> str:
    # kept apart from the run's own splits, whose files must not be replaced
    return f"data-{table.name}"


def _results_folder(checkpoint: Path) -> Path:
    parent = checkpoint.parent
    return (parent.parent if parent.name == "checkpoints" else parent) / "test_results"
