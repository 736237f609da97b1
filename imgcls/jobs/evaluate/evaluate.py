"""`imgcls evaluate`: one checkpoint, all folds of a run, or their average, on some pictures."""

from __future__ import annotations

from imgcls.config.evaluate import EvaluateConfig
from imgcls.engine.checkpoint.folder import read_checkpoint
from imgcls.errors import ConfigError
from imgcls.jobs.early import check_folder
from imgcls.jobs.evaluate.compare import read_other
from imgcls.jobs.evaluate.corruptions import require_corruptible
from imgcls.jobs.evaluate.costs import read_costs
from imgcls.jobs.evaluate.evaluation import Evaluation
from imgcls.jobs.evaluate.explain import explainable_model
from imgcls.jobs.evaluate.folds import fold_checkpoints
from imgcls.jobs.evaluate.report import Scoring
from imgcls.jobs.evaluate.result_folders import ResultFolders
from imgcls.jobs.evaluate.score import OnBatch, ignore_batches
from imgcls.jobs.evaluate.thresholds import require_gates
from imgcls.jobs.plan.compute import compute_settings
from imgcls.jobs.plan.tables import require_outside
from imgcls.results.evaluation import EvalReport
from imgcls.storage.durable import refused
from imgcls.storage.pointers import find_checkpoint
from imgcls.storage.runs import how_far, newest_run_with_checkpoint


def evaluate(
    config: EvaluateConfig, on_batch: OnBatch = ignore_batches, *, files_needed: bool = True
) -> EvalReport:
    """Score a checkpoint, or the folds of a run, and write the files below `test_results/`.

    All files take their names together at the end. on_batch is told (batches done, batches in all).
    files_needed: False scores a run that is read-only without writing any. Raises CheckpointError,
    ConfigError, DataError, RunError or DeviceError before anything is scored.
    """
    path = config.checkpoint or newest_run_with_checkpoint(config.output)
    compute = compute_settings(
        config.device, config.amp, channels_last=config.channels_last is not False
    )
    if config.fold == "all" or config.ensemble:
        checkpoints = fold_checkpoints(path, "--ensemble" if config.ensemble else "--fold all")
    else:
        checkpoints = [read_checkpoint(find_checkpoint(path, config.fold))]
    costs = config.costs
    scoring = Scoring(
        batch_size=config.batch_size,
        workers=config.workers,
        top_k=config.top_k,
        ci_samples=config.ci_samples if config.ci == "bootstrap" else 0,
        seed=config.seed,
        by=config.by,
        skips=config.on_bad_image == "skip",
        costs=None if costs is None else read_costs(costs, checkpoints[0].class_names),
    )
    require_gates(config.fail_under, config.top_k)
    if config.corruptions:
        if len(checkpoints) > 1 or config.tta != "none":
            raise ConfigError("--corruptions: scores one model on single views; leave the others")
        require_corruptible(checkpoints[0])
    explained = None
    if config.explain:
        if len(checkpoints) > 1 or config.tta != "none":
            raise ConfigError("--explain: explains one model on single views; leave the others")
        explained = explainable_model(checkpoints[0])
    other = None
    if config.compare is not None:
        fold = config.fold if isinstance(config.fold, int) else None
        other = read_other(config.compare, fold, checkpoints[0].class_names)
    unfinished = how_far(path, config.fold if isinstance(config.fold, int) else None)
    notes = (f"{unfinished}; its best so far is evaluated",) if unfinished else ()
    where = config.results_dir or path
    if config.results_dir is not None:
        source = config.data or checkpoints[0].facts.get("config", {}).get("data", {}).get("source")
        require_outside(source or "", config.results_dir, "--results-dir")
        check_folder("--results-dir", config.results_dir)
    needed = files_needed or config.results_dir is not None
    try:
        with ResultFolders(config.results_dir, needed=needed, force=config.force) as results:
            job = Evaluation(config, compute, scoring, on_batch, other, notes, explained, results)
            return job.run(path, checkpoints)
    except OSError as error:
        raise refused(error, where, "earlier results are as they were") from error
