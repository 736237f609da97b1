"""Score a checkpoint on a split, from what the checkpoint and its run say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from imgcls.config.evaluate import EvaluateConfig
from imgcls.data.open import open_source
from imgcls.data.source import SampleTable
from imgcls.engine.batches import ComputeSettings
from imgcls.engine.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from imgcls.engine.temperature import Temperature, read_temperature, save_temperature
from imgcls.errors import ConfigError, OutputError
from imgcls.jobs.assemble import compute_settings
from imgcls.jobs.runs import newest_run_with_checkpoint
from imgcls.jobs.score import (
    OnBatch,
    Pictures,
    Scoring,
    ignore_batches,
    prepare,
    run_pictures,
    score,
)
from imgcls.metrics.calibration import fit_temperature
from imgcls.report.evaluation_files import write_evaluation
from imgcls.results import EvalReport


def evaluate(config: EvaluateConfig, on_batch: OnBatch = ignore_batches) -> EvalReport:
    """Score a checkpoint and write its files below the fold's `test_results/`.

    on_batch is told (batches done, batches in all). Raises CheckpointError, DataError, RunError or
    DeviceError before anything is scored.
    """
    compute = compute_settings(config.device, config.amp, channels_last=config.channels_last)
    path = config.checkpoint or newest_run_with_checkpoint(config.output)
    folder = find_checkpoint(path, config.fold)
    checkpoint = read_checkpoint(folder)
    pictures = _pictures(config, checkpoint)
    scoring = Scoring(
        batch_size=config.batch_size,
        workers=config.workers,
        top_k=config.top_ks,
        ci_samples=config.ci_samples if config.ci == "bootstrap" else 0,
        seed=config.seed,
    )
    temperature = _temperature(config, checkpoint, compute, scoring, on_batch)
    report, predictions = score(
        checkpoint, pictures, compute, scoring=scoring, temperature=temperature, on_batch=on_batch
    )
    if temperature is not None and temperature.fitted_on == pictures.split:
        note = f"the temperature was fitted on {pictures.split}, so its calibration looks too good"
        report = replace(report, notes=(*report.notes, note))
    try:
        assert report.folder is not None
        write_evaluation(report.folder, report, predictions)
    except OSError as error:
        raise OutputError(f"{report.folder}: cannot be written ({error.strerror})") from error
    return report


def _temperature(
    config: EvaluateConfig,
    checkpoint: Checkpoint,
    compute: ComputeSettings,
    scoring: Scoring,
    on_batch: OnBatch,
) -> Temperature | None:
    """The temperature that `--calibrate` asks for: fitted now on val, kept earlier, or none."""
    if config.calibrate == "none":
        return None
    if config.calibrate == "auto":
        return read_temperature(checkpoint)
    if config.data is None and config.split == "val":
        raise ConfigError(
            "--calibrate temperature: is fitted on val, so val cannot be scored with it; score "
            "--split test, or other pictures with --data"
        )
    fitting = run_pictures(checkpoint, "val")
    seen = prepare(checkpoint, fitting, compute, scoring).predict(on_batch)
    found = Temperature(fit_temperature(seen.logits, seen.labels), "val", len(seen.labels))
    save_temperature(checkpoint, found)
    return found


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
