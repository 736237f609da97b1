"""Across folds: pooled out-of-fold metrics, and their mean and spread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.config.evaluate import EvaluateConfig
from imgcls.engine.checkpoint.folder import Checkpoint, read_checkpoint
from imgcls.engine.checkpoint.temperature import Temperature, read_temperature
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.scoring.inference import InferencePass
from imgcls.errors import RunError
from imgcls.jobs.evaluate.bad_images import without_unreadable
from imgcls.jobs.evaluate.pictures import Pictures
from imgcls.jobs.evaluate.report import Scoring, measured_speed, report_on
from imgcls.jobs.evaluate.result_folders import ResultFolders
from imgcls.jobs.evaluate.score import OnBatch, ignore_batches, score
from imgcls.jobs.evaluate.trained_on import together, with_trained_on
from imgcls.jobs.plan.compute import compute_settings
from imgcls.jobs.plan.plan import Plan
from imgcls.metrics.blocks import blocks
from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.intervals import fold_interval, metric_range
from imgcls.metrics.predictions import Predictions
from imgcls.results.evaluation import EvalReport
from imgcls.storage.bad_images import add_bad_images
from imgcls.storage.evaluations import LOGITS, write_evaluation
from imgcls.storage.pointers import best_of, find_checkpoint
from imgcls.storage.runs import CONFIG, SUMMARY, read_run_config
from imgcls.storage.scores import ScoreFile
from imgcls.storage.tables import write_json

_OF_THE_SUMMARY = ("amp", "calibrate", "top_k", "ci", "ci_samples", "seed", "exclude_trained")


def summarize(plan: Plan, run: Path) -> dict[str, Any]:
    """Cross-validate a run that has just been trained; what `summary.json` then says."""
    held_out = [
        Pictures(plan.table, plan.assignment.indices("val", fold), "val", run=run)
        for fold in plan.folds
    ]
    if plan.config.data.on_bad_image == "skip":
        # some may have broken since their fold was trained
        held_out = [without_unreadable(pictures, plan.workers) for pictures in held_out]
        for pictures in held_out:
            add_bad_images(run, pictures.left_out)
    checkpoints = [read_checkpoint(find_checkpoint(run, fold)) for fold in plan.folds]
    held_out = [
        with_trained_on([checkpoint], pictures, exclude=False, workers=plan.workers)
        for checkpoint, pictures in zip(checkpoints, held_out, strict=True)
    ]
    with ResultFolders() as results:
        report = cross_validate(
            run,
            checkpoints,
            held_out,
            # as `imgcls evaluate --fold all` does it, so that the two give one summary
            compute_settings(str(plan.compute.device), "off", channels_last=True),
            scoring=Scoring(EvaluateConfig().batch_size, plan.workers),
            temperatures=[read_temperature(checkpoint) for checkpoint in checkpoints],
            results=results,
        )
        results.commit()
    summary = summary_of(report)
    write_json(run / SUMMARY, summary)
    return summary


def fold_checkpoints(run: Path, option: str) -> list[Checkpoint]:
    """The best checkpoint of every fold of a run. Raises RunError when there are not several."""
    folders = sorted(run.glob("fold_*"), key=lambda path: (len(path.name), path.name))
    found = [best for folder in folders if (best := best_of(folder / "checkpoints"))]
    if len(found) < 2:  # noqa: PLR2004
        folds = read_run_config(run).data.folds if (run / CONFIG).is_file() else 0
        if folds:
            raise RunError(
                f"{option}: {run} has {len(found)} of its {folds} folds trained, and this takes "
                f"several; train them with `imgcls train --folds {folds} --fold all`"
            )
        raise RunError(
            f"{option}: {run} is not a run of several folds; train one with "
            "`imgcls train --folds 5`"
        )
    return [read_checkpoint(folder) for folder in found]


def cross_validate(
    run: Path,
    checkpoints: Sequence[Checkpoint],
    held_out: Sequence[Pictures],
    compute: ComputeSettings,
    *,
    scoring: Scoring,
    temperatures: Sequence[Temperature | None],
    results: ResultFolders,
    on_batch: OnBatch = ignore_batches,
) -> EvalReport:
    """Score each fold's checkpoint on the pictures it has not seen, and pool them.

    Stages each fold's val files and those of the pooled pictures.
    """
    split = held_out[0].split
    folders = [results.of_fold(checkpoint, split) for checkpoint in checkpoints]
    folder = results.of_run(run, split)
    reports: list[EvalReport] = []
    passes: list[InferencePass] = []
    for checkpoint, temperature, pictures, own in zip(
        checkpoints, temperatures, held_out, folders, strict=True
    ):
        report, result = score(
            checkpoint,
            pictures,
            compute,
            scoring=scoring,
            folder=own,
            temperature=temperature,
            on_batch=on_batch,
        )
        write_evaluation(own, report, result.predictions, scoring.cost_matrix)
        reports.append(report)
        passes.append(result)
    first = reports[0]
    with ScoreFile(folder / LOGITS, sum(len(part.keys) for part in passes)) as file:
        for part in passes:
            for rows in blocks(*part.logits.shape):
                file.append(part.logits[rows] / np.float32(part.temperature))
        pooled = Predictions(
            keys=tuple(key for part in passes for key in part.keys),
            logits=file.mapped(),
            labels=np.concatenate([part.labels for part in passes]),
        )
    metrics = MetricsCalculator(first.class_names, scoring.top_k).compute(pooled)
    every = replace(
        held_out[0],
        indices=np.concatenate([part.indices for part in held_out]),
        left_out=tuple(picture for part in held_out for picture in part.left_out),
        trained_on=together([part.trained_on for part in held_out]),
    )
    report = report_on(
        metrics,
        pooled,
        every,
        scoring,
        checkpoint=checkpoints[0],
        speed=measured_speed(passes, compute),
        folder=folder,
        folds=np.repeat(np.arange(len(passes)), [len(part.keys) for part in passes]),
    )
    report = replace(
        report,
        checkpoint=run,
        fold="all",
        cross_validation=_over_folds(reports, checkpoints),
        bad_images=tuple(picture for pictures in held_out for picture in pictures.left_out),
        notes=tuple(dict.fromkeys(_notes(reports, held_out))),
    )
    write_evaluation(folder, report, pooled, scoring.cost_matrix)
    return report


def _notes(reports: Sequence[EvalReport], held_out: Sequence[Pictures]) -> Iterator[str]:
    """What is to be known of the data, then of each fold."""
    for pictures in held_out:
        yield from pictures.notes
    for report, pictures in zip(reports, held_out, strict=True):
        yield from (f"fold {report.fold}: {n}" for n in report.notes if n not in pictures.notes)


def keep_summary(
    config: EvaluateConfig, run: Path, report: EvalReport, results: ResultFolders
) -> EvalReport:
    """Let the commit write `summary.json`; the report has a note where that file is left alone.

    The file is one thing, whoever wrote it last: an evaluation with the options as by default.
    """
    fields = EvaluateConfig.model_fields
    if all(getattr(config, name) == fields[name].default for name in _OF_THE_SUMMARY):
        results.keep_json((config.results_dir or run) / SUMMARY, summary_of(report))
        return report
    note = f"{SUMMARY} is left as it was: it is of an evaluation with the options as by default"
    return replace(report, notes=(*report.notes, note))


def _over_folds(reports: Sequence[EvalReport], checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    scores = [
        name
        for name in reports[0].metrics
        if name not in ("samples", "num_classes", "classes_scored")
    ]
    values = {name: [report.metrics[name] for report in reports] for name in scores}
    complete = {n: v for n, v in values.items() if None not in v}
    return {
        "folds": len(reports),
        "splitter": checkpoints[0].facts.get("splitter"),
        "mean": {n: float(np.mean(complete[n])) if n in complete else None for n in scores},
        "std": {n: float(np.std(complete[n], ddof=1)) if n in complete else None for n in scores},
        "interval": {n: fold_interval(v, limits=metric_range(n)) for n, v in complete.items()},
        "per_fold": [
            {"fold": report.fold, "best_epoch": checkpoint.facts["epoch"], **report.metrics}
            for report, checkpoint in zip(reports, checkpoints, strict=True)
        ],
    }


def summary_of(report: EvalReport) -> dict[str, Any]:
    """What `summary.json` holds: per fold, mean, std (ddof=1) and the pooled metrics.

    A metric that some fold lacks is null.
    """
    return {
        "model_name": report.model_name,
        **(report.cross_validation or {}),
        "pooled": report.metrics,
        "pooled_undefined": report.undefined,
        "pooled_intervals": report.intervals,
    }
