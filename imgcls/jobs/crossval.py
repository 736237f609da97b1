"""Across folds: mean, standard deviation and pooled out-of-fold metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from imgcls.engine.checkpoint import find_checkpoint, read_checkpoint
from imgcls.jobs.assemble import Plan
from imgcls.jobs.runs import SUMMARY
from imgcls.jobs.score import Pictures, Scoring, score
from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.predictions import Predictions
from imgcls.report.evaluation_files import write_evaluation
from imgcls.report.files import write_json


def summarize(plan: Plan, run: Path) -> dict[str, Any]:
    """Score each fold's best checkpoint on the pictures it has not seen, and pool them.

    Writes each fold's val files and `summary.json`: per fold, mean, std (ddof=1) and the metrics of
    all out-of-fold predictions taken together. A metric that some fold lacks is null.
    """
    per_fold: list[dict[str, Any]] = []
    predictions: list[Predictions] = []
    for fold in plan.folds:
        checkpoint = read_checkpoint(find_checkpoint(run, fold))
        report, scored = score(
            checkpoint,
            Pictures(plan.table, plan.assignment.indices("val", fold), "val"),
            plan.compute,
            scoring=Scoring(plan.config.data.batch_size, plan.workers),
        )
        assert report.folder is not None
        write_evaluation(report.folder, report, scored)
        per_fold.append({"fold": fold, "best_epoch": checkpoint.facts["epoch"], **report.metrics})
        predictions.append(scored)
    pooled = MetricsCalculator(plan.class_names).compute(
        Predictions(
            keys=tuple(key for part in predictions for key in part.keys),
            logits=np.concatenate([part.logits for part in predictions]),
            labels=np.concatenate([part.labels for part in predictions]),
        )
    )
    scores = [
        name for name in pooled.metrics if name not in ("samples", "num_classes", "classes_scored")
    ]
    values = {name: [row[name] for row in per_fold] for name in scores}
    complete = {n: np.array(v, dtype=float) for n, v in values.items() if None not in v}
    summary = {
        "model_name": plan.config.model.name,
        "splitter": plan.assignment.splitter,
        "folds": len(plan.folds),
        "mean": {n: float(complete[n].mean()) if n in complete else None for n in scores},
        "std": {n: float(complete[n].std(ddof=1)) if n in complete else None for n in scores},
        "pooled": pooled.metrics,
        "pooled_undefined": pooled.undefined,
        "per_fold": per_fold,
    }
    write_json(run / SUMMARY, summary)
    return summary
