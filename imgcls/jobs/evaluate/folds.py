"""Across folds: pooled out-of-fold metrics, and their mean and spread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.config.evaluate import EvaluateConfig
from imgcls.engine.checkpoint.folder import Checkpoint, read_checkpoint
from imgcls.engine.checkpoint.temperature import Temperature
from imgcls.errors import RunError
from imgcls.jobs.evaluate.calibrate import calibrated, calibration, kept_temperature
from imgcls.jobs.evaluate.extras import report_of
from imgcls.jobs.evaluate.pictures import Pictures, without_unreadable
from imgcls.jobs.evaluate.result_folders import ResultFolders
from imgcls.jobs.evaluate.scored import Opened, Scored, Session, score
from imgcls.jobs.evaluate.trained_on import pooled, with_trained_on
from imgcls.jobs.plan.compute import compute_settings
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.scorer import open_scorer
from imgcls.metrics.intervals import fold_interval
from imgcls.metrics.predictions import Predictions, blocks
from imgcls.metrics.registry import SIZES, get_metric
from imgcls.results.evaluation import CrossValidation, EvalReport
from imgcls.storage.bad_images import add_bad_images
from imgcls.storage.ensembles import is_ensemble, trained_members
from imgcls.storage.evaluations import LOGITS, write_evaluation
from imgcls.storage.pointers import CHECKPOINTS, best_of, find_checkpoint
from imgcls.storage.runs import CONFIG, SUMMARY, how_far, read_run_config
from imgcls.storage.scores import ScoreFile
from imgcls.storage.tables import write_json

_OF_THE_SUMMARY = ("amp", "calibrate", "top_k", "ci", "ci_samples", "seed", "exclude_trained")


def summarize(plan: Plan, run: Path) -> dict[str, Any]:
    """Cross-validate a run that has just been trained; what `summary.json` then says."""
    held_out = [
        Pictures(plan.data.table, plan.data.rows("val", fold), "val", run=run)
        for fold in plan.data.folds
    ]
    if plan.config.data.on_bad_image == "skip":
        # some may have broken since their fold was trained
        held_out = [without_unreadable(pictures, plan.loading.workers) for pictures in held_out]
        for pictures in held_out:
            add_bad_images(run, pictures.left_out)
    checkpoints = [read_checkpoint(find_checkpoint(run, fold)) for fold in plan.data.folds]
    held_out = [
        with_trained_on([checkpoint], pictures, exclude=False, workers=plan.loading.workers)
        for checkpoint, pictures in zip(checkpoints, held_out, strict=True)
    ]
    # as `imgcls evaluate --fold all` does it, so that the two give one summary
    compute = compute_settings(str(plan.compute.device), "off", channels_last=True)
    with ResultFolders() as results:
        session = Session(run, EvaluateConfig(workers=plan.loading.workers), compute, results)
        temperatures = [kept_temperature(session.config, found) for found in checkpoints]
        summary = summary_of(cross_validate(session, checkpoints, temperatures, held_out))
        results.commit()
    write_json(run / SUMMARY, summary)
    return summary


def member_checkpoints(path: Path, option: str) -> list[Checkpoint]:
    """The checkpoints that are averaged: those of an ensemble's runs, or of every fold of a run.

    Raises RunError when there are not several.
    """
    if is_ensemble(path):
        return [read_checkpoint(folder) for folder in trained_members(path, option)]
    return fold_checkpoints(path, option)


def fold_checkpoints(run: Path, option: str) -> list[Checkpoint]:
    """The best checkpoint of every fold of a run. Raises RunError when there are not several."""
    folders = sorted(run.glob("fold_*"), key=lambda path: (len(path.name), path.name))
    found = [best for folder in folders if (best := best_of(folder / CHECKPOINTS))]
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
    session: Session,
    checkpoints: Sequence[Checkpoint],
    temperatures: Sequence[Temperature | None],
    held_out: Sequence[Pictures],
) -> EvalReport:
    """Score each fold's checkpoint on the pictures it has not seen, and pool them.

    Stages each fold's val files and those of the pooled pictures.
    """
    results, split = session.results, held_out[0].split
    folders = [results.of_fold(checkpoint, split) for checkpoint in checkpoints]
    folder = results.of_run(session.path, split)
    folds = zip(checkpoints, temperatures, held_out, folders, strict=True)
    # one behind the other, so that one model at a time is in memory
    scored = [_score_fold(session, *fold) for fold in folds]
    reports, parts = [report for report, _ in scored], [part for _, part in scored]
    whole = _pooled(session, parts, folder)
    report = replace(
        report_of(whole, [partial(_over_folds, reports=reports)]),
        notes=tuple(dict.fromkeys(_notes(reports, held_out))),
    )
    write_evaluation(folder, report, whole.predictions, session.costs)
    return report


def _score_fold(
    session: Session,
    checkpoint: Checkpoint,
    temperature: Temperature | None,
    held_out: Pictures,
    folder: Path,
) -> tuple[EvalReport, Scored]:
    """A fold on its own pictures, its files in the folder; without its model from here on."""
    opened = calibrated(Opened(checkpoint, open_scorer(checkpoint, session.compute)), temperature)
    scored = score(session, opened, held_out, folder)
    report = report_of(scored, [calibration])
    write_evaluation(folder, report, scored.predictions, session.costs)
    return report, replace(scored, scorer=None)


def _pooled(session: Session, parts: Sequence[Scored], folder: Path) -> Scored:
    """What the folds made of their own pictures, as of one model; the scores in the folder."""
    scores = [part.predictions for part in parts]
    with ScoreFile(folder / LOGITS, sum(len(part.keys) for part in scores)) as file:
        for part in scores:
            for rows in blocks(*part.logits.shape):
                file.append(part.logits[rows] / np.float32(part.temperature))
        predictions = Predictions(
            keys=tuple(key for part in scores for key in part.keys),
            logits=file.mapped(),
            labels=np.concatenate([part.labels for part in scores]),
        )
    held_out = [part.pictures for part in parts]
    return Scored(
        session=session,
        checkpoints=tuple(part.checkpoints[0] for part in parts),
        temperatures=tuple(part.temperatures[0] for part in parts),
        pictures=replace(
            held_out[0],
            indices=np.concatenate([own.indices for own in held_out]),
            left_out=tuple(picture for own in held_out for picture in own.left_out),
            trained_on=pooled([own.trained_on for own in held_out]),
        ),
        predictions=predictions,
        folder=folder,
        batch_times_s=tuple(time_s for part in parts for time_s in part.batch_times_s),
        batch_sizes=tuple(size for part in parts for size in part.batch_sizes),
        folds=np.repeat(np.arange(len(parts)), [len(part.keys) for part in scores]),
    )


def _notes(reports: Sequence[EvalReport], held_out: Sequence[Pictures]) -> Iterator[str]:
    """What is to be known of the data, then of each fold."""
    for pictures in held_out:
        yield from pictures.notes
    for report, pictures in zip(reports, held_out, strict=True):
        yield from (f"fold {report.fold}: {n}" for n in report.notes if n not in pictures.notes)


def keep_summary(session: Session, report: EvalReport) -> EvalReport:
    """Let the commit write `summary.json`; the report has a note where that file is left alone.

    The file is one thing, whoever wrote it last: an evaluation with the options as by default. In
    a run it is the mark of a finished one, so that only training writes it before that.
    """
    config, fields = session.config, EvaluateConfig.model_fields
    file = (config.results_dir or session.path) / SUMMARY
    unfinished = session.notes or how_far(session.path)
    if unfinished and file.parent.resolve() == session.path.resolve():
        note = f"{SUMMARY} is left alone: the run is unfinished, and its training writes it"
        return replace(report, notes=(*report.notes, note))
    if all(getattr(config, name) == fields[name].default for name in _OF_THE_SUMMARY):
        session.results.keep_json(file, summary_of(report))
        return report
    note = f"{SUMMARY} is left as it was: it is of an evaluation with the options as by default"
    return replace(report, notes=(*report.notes, note))


def _over_folds(scored: Scored, reports: Sequence[EvalReport]) -> dict[str, Any]:
    """Mean, spread and interval of each metric over the folds, and what each fold has."""
    checkpoints = scored.checkpoints
    scores = [name for name in reports[0].metrics if name not in SIZES]
    values = {name: [report.metrics[name] for report in reports] for name in scores}
    complete = {n: v for n, v in values.items() if None not in v}
    return {
        "cross_validation": CrossValidation(
            folds=len(reports),
            splitter=checkpoints[0].sidecar.splitter,
            mean={n: float(np.mean(complete[n])) if n in complete else None for n in scores},
            std={n: float(np.std(complete[n], ddof=1)) if n in complete else None for n in scores},
            interval={
                n: fold_interval(v, limits=get_metric(n).limits) for n, v in complete.items()
            },
            per_fold=tuple(
                {"fold": report.fold, "best_epoch": checkpoint.sidecar.epoch, **report.metrics}
                for report, checkpoint in zip(reports, checkpoints, strict=True)
            ),
        )
    }


def summary_of(report: EvalReport) -> dict[str, Any]:
    """What `summary.json` holds: per fold, mean, std (ddof=1) and the pooled metrics.

    A metric that some fold lacks is null.
    """
    return {
        "model_name": report.model_name,
        **(report.cross_validation.to_json() if report.cross_validation else {}),
        "pooled": report.metrics,
        "pooled_undefined": report.undefined,
        "pooled_intervals": report.intervals,
    }
