"""`imgcls evaluate`: one checkpoint, all folds of a run, or their average, on some pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from imgcls.config.evaluate import EvaluateConfig
from imgcls.engine.checkpoint.folder import Checkpoint, read_checkpoint
from imgcls.engine.checkpoint.temperature import Temperature
from imgcls.errors import ConfigError
from imgcls.jobs.early import check_folder
from imgcls.jobs.evaluate.calibrate import calibration, kept_temperature, open_calibrated
from imgcls.jobs.evaluate.decisions import checked_thresholds, read_costs, require_thresholds
from imgcls.jobs.evaluate.ensemble import averaging, require_same_pictures, score_ensemble
from imgcls.jobs.evaluate.extras import asked_extras, report_of
from imgcls.jobs.evaluate.folds import (
    cross_validate,
    fold_checkpoints,
    keep_summary,
    member_checkpoints,
)
from imgcls.jobs.evaluate.pictures import (
    chosen_pictures,
    has_split,
    readable,
    require_columns,
    run_pictures,
)
from imgcls.jobs.evaluate.result_folders import ResultFolders
from imgcls.jobs.evaluate.scored import Extra, OnBatch, Session, ignore_batches, score
from imgcls.jobs.evaluate.trained_on import with_trained_on
from imgcls.jobs.page.page import make_page
from imgcls.jobs.plan.compute import compute_settings
from imgcls.jobs.plan.tables import require_outside
from imgcls.output.trackers.evaluations import log_evaluation
from imgcls.results.evaluation import EvalReport
from imgcls.storage.durable import refused
from imgcls.storage.ensembles import how_far_it_is, is_ensemble, newest_with_checkpoint
from imgcls.storage.evaluations import write_evaluation, write_metrics
from imgcls.storage.pointers import find_checkpoint


def evaluate(
    config: EvaluateConfig,
    on_batch: OnBatch = ignore_batches,
    *,
    files_needed: bool = True,
    tell_trackers: bool = True,
) -> EvalReport:
    """Score a checkpoint, or the folds of a run, and write the files below `test_results/`.

    All files take their names together at the end. on_batch is told (batches done, batches in all).
    files_needed: False scores a run that is read-only without writing any. tell_trackers: add the
    results to the tracked runs of a fold that was trained with `--log`. Raises CheckpointError,
    ConfigError, DataError, RunError or DeviceError before anything is scored.
    """
    path = config.checkpoint or newest_with_checkpoint(config.output)
    if is_ensemble(path):
        config = _of_ensemble(config, path)
    compute = compute_settings(
        config.device, config.amp, channels_last=config.channels_last is not False
    )
    # before its checkpoints are read: training may go on beside this
    unfinished = how_far_it_is(path, config.fold if isinstance(config.fold, int) else None)
    if config.ensemble:
        checkpoints = member_checkpoints(path, "--ensemble")
    elif config.fold == "all":
        checkpoints = fold_checkpoints(path, "--fold all")
    else:
        checkpoints = [read_checkpoint(find_checkpoint(path, config.fold))]
    first = checkpoints[0]
    costs = None if config.costs is None else read_costs(config.costs, first.class_names)
    require_thresholds(config)
    extras = asked_extras(config, checkpoints)
    notes = (f"{unfinished}; its best so far is evaluated",) if unfinished else ()
    _require_results_dir(config, first)
    needed = files_needed or config.results_dir is not None
    try:
        with ResultFolders(config.results_dir, needed=needed, force=config.force) as results:
            session = Session(path, config, compute, results, on_batch, costs, notes)
            if config.fold == "all":
                report = _evaluate_folds(session, checkpoints)
            else:
                report = _evaluate(session, checkpoints, extras)
            results.commit()
            report = results.shown(report)
    except OSError as error:
        where = config.results_dir or path
        raise refused(error, where, "earlier results are as they were") from error
    if not tell_trackers or len(checkpoints) > 1 or report.folder is None:
        return report
    untold = log_evaluation(first.folder, first.sidecar.epoch, report.folder)
    return replace(report, notes=(*report.notes, *untold))


def _of_ensemble(config: EvaluateConfig, path: Path) -> EvaluateConfig:
    """The config that averages an ensemble's runs. Raises ConfigError for a fold of one."""
    if config.fold is not None:
        raise ConfigError(
            f"--fold {config.fold}: {path} is an ensemble of several models; evaluate one of its "
            "runs, or all of them together without --fold"
        )
    return config.model_copy(update={"ensemble": True})


def _evaluate(
    session: Session, checkpoints: Sequence[Checkpoint], extras: Sequence[Extra] = ()
) -> EvalReport:
    """One checkpoint, or the average of several, on the pictures that were asked for."""
    config, first = session.config, checkpoints[0]
    folds = {checkpoint.fold for checkpoint in checkpoints}
    if len(folds) > 1 and config.data is None and config.split != "test":
        raise ConfigError(
            f"--split {config.split}: was trained on by some of the folds, so the ensemble cannot "
            "be scored on it; take --split test or --data"
        )
    pictures = with_trained_on(
        checkpoints,
        readable(chosen_pictures(config, first), config),
        exclude=config.exclude_trained,
        workers=config.workers,
    )
    name = pictures.split if config.tta == "none" else f"{pictures.split}-{config.tta}"
    if len(checkpoints) > 1:
        require_same_pictures(checkpoints)
        folder = session.results.of_run(session.path, name)
    else:
        folder = session.results.of_fold(first, name)
    opened = [open_calibrated(session, checkpoint, folder) for checkpoint in checkpoints]
    if len(opened) > 1 or config.tta != "none":
        scored = score_ensemble(session, opened, pictures, folder)
        report = report_of(scored, [averaging, *extras])
    else:
        scored = score(session, opened[0], pictures, folder)
        report = report_of(scored, [calibration, *extras])
    report = _judged(session, report, scored.temperatures)
    write_evaluation(folder, report, scored.predictions, session.costs)
    return _with_page(session, report)


def _evaluate_folds(session: Session, checkpoints: Sequence[Checkpoint]) -> EvalReport:
    """Each fold on its own val pictures, pooled; and the folds' average on the test split."""
    config, first = session.config, checkpoints[0]
    if config.calibrate == "temperature" or config.tta != "none" or config.data or config.compare:
        raise ConfigError(
            "--fold all scores each fold on its own val pictures, as they are; leave --data, "
            "--tta, --compare and --calibrate temperature to --ensemble"
        )
    temperatures = [kept_temperature(config, checkpoint) for checkpoint in checkpoints]
    skip = config.on_bad_image == "skip"
    held_out = [
        with_trained_on(
            [checkpoint],
            readable(run_pictures(checkpoint, "val", config.reading, skip=skip), config),
            exclude=config.exclude_trained,
            workers=config.workers,
        )
        for checkpoint in checkpoints
    ]
    require_columns(held_out[0], config)
    averaged = has_split(first, "test")
    if averaged:  # what is wrong with it comes before any scoring
        run_pictures(first, "test", config.reading, skip=skip)
    report = cross_validate(session, checkpoints, temperatures, held_out)
    if averaged:
        on_test = config.model_copy(update={"split": "test"})
        average = _evaluate(replace(session, config=on_test), checkpoints)
        assert average.ensemble is not None
        gain = replace(
            average.ensemble,
            split=average.split,
            metrics=average.metrics,
            intervals=average.intervals,
        )
        told = {*session.notes, *report.notes}
        new = [f"averaged on {average.split}: {n}" for n in average.notes if n not in told]
        report = replace(report, ensemble=gain, notes=(*report.notes, *new))
    else:
        note = "the run has no test split, so the folds' average is not scored"
        report = replace(report, notes=(*report.notes, note))
    report = _judged(session, report, temperatures)
    assert report.folder is not None
    write_metrics(report.folder, report)
    report = _with_page(session, report)
    return keep_summary(session, report) if session.results.kept else report


def _require_results_dir(config: EvaluateConfig, checkpoint: Checkpoint) -> None:
    """Raise ConfigError for a `--results-dir` among the data's pictures, or that is no folder."""
    if config.results_dir is None:
        return
    source = config.data or (checkpoint.sidecar.config or {}).get("data", {}).get("source")
    require_outside(source or "", config.results_dir, "--results-dir")
    check_folder("--results-dir", config.results_dir)


def _judged(
    session: Session, report: EvalReport, temperatures: Sequence[Temperature | None]
) -> EvalReport:
    """The report against its thresholds, and a word where its calibration is no proof."""
    notes = (*session.notes, *(n for n in report.notes if n not in session.notes))
    if any(t is not None and t.fitted_on == report.split for t in temperatures):
        note = f"the temperature was fitted on {report.split}: its calibration looks too good"
        notes = (*notes, note)
    thresholds = checked_thresholds(report.metrics, session.config.fail_under)
    return replace(report, notes=notes, thresholds=thresholds)


def _with_page(session: Session, report: EvalReport) -> EvalReport:
    if not session.config.report:
        return report
    assert report.folder is not None
    made = make_page(report.folder)
    return replace(report, page=made.page, notes=(*report.notes, *made.notes))
