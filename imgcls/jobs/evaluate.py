"""Score a checkpoint on a split, from what the checkpoint and its run say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from imgcls.config.evaluate import EvaluateConfig
from imgcls.data.open import open_source
from imgcls.data.source import SampleTable
from imgcls.engine.checkpoint import Checkpoint, find_checkpoint, read_checkpoint
from imgcls.errors import ConfigError, OutputError
from imgcls.jobs.assemble import compute_settings
from imgcls.jobs.runs import newest_run_with_checkpoint
from imgcls.jobs.score import Pictures, Scoring, run_pictures, score
from imgcls.report.evaluation_files import write_evaluation
from imgcls.results import EvalReport


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
        scoring=Scoring(
            batch_size=config.batch_size,
            workers=config.workers,
            top_k=config.top_ks,
            ci_samples=config.ci_samples if config.ci == "bootstrap" else 0,
            seed=config.seed,
        ),
        on_batch=on_batch,
    )
    try:
        assert report.folder is not None
        write_evaluation(report.folder, report, predictions)
    except OSError as error:
        raise OutputError(f"{report.folder}: cannot be written ({error.strerror})") from error
    return report


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
