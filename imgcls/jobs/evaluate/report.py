"""From predictions to the report of an evaluation: every number that was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import amp_name
from imgcls.engine.scoring.inference import InferencePass
from imgcls.errors import DataError
from imgcls.jobs.evaluate.costs import CostTable, expected_costs
from imgcls.jobs.evaluate.pictures import Pictures
from imgcls.metrics.calculator import MetricSet
from imgcls.metrics.decisions import coverage_table, operating_points
from imgcls.metrics.intervals import Interval, bootstrap_intervals, ranks_affordable
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.resampling import Resampler
from imgcls.metrics.slices import slice_metrics
from imgcls.metrics.speed import speed_metrics
from imgcls.results.evaluation import EvalReport


@dataclass(frozen=True)
class Scoring:
    """How pictures are fed and which numbers are wanted.

    ci_samples: 0 gives no intervals. by: columns of the data whose values are scored apart.
    costs: what each decision costs, and the file that says so. skips: pictures that cannot be read
    were looked for and left out.
    """

    batch_size: int
    workers: int | str
    top_k: tuple[int, ...] = (1, 3, 5)
    ci_samples: int = 1000
    seed: int = 0
    by: tuple[str, ...] = ()
    costs: CostTable | None = None
    skips: bool = False

    @property
    def cost_matrix(self) -> np.ndarray | None:
        """float64 [C, C], or None."""
        return None if self.costs is None else self.costs.costs

    def resampler(
        self,
        predictions: Predictions,
        groups: Sequence[str] | None,
        folds: np.ndarray | None = None,
    ) -> Resampler | None:
        """Resamples for paired intervals; None where none are wanted or can be drawn."""
        if not self.ci_samples:
            return None
        with contextlib.suppress(DataError):
            return Resampler(predictions.labels, self.ci_samples, self.seed, groups, folds)
        return None

    def intervals(
        self,
        predictions: Predictions,
        groups: Sequence[str] | None,
        folds: np.ndarray | None = None,
    ) -> tuple[dict[str, Interval], str | None]:
        """The 95% intervals and how they were made; none, with the reason, where none can be."""
        if not self.ci_samples:
            return {}, None
        try:
            found = bootstrap_intervals(
                predictions, self.ci_samples, self.seed, groups, folds=folds, top_k=self.top_k
            )
        except DataError as error:
            return {}, str(error)
        what = "pictures" if groups is None else "groups"
        method = f"bootstrap of {what} within each class, {self.ci_samples:,} resamples"
        if folds is not None:
            method += ", widened by the spread between the folds' models"
        if not ranks_affordable(predictions, self.ci_samples):
            method += "; none for ROC AUC and average precision, they would take too long"
        return found, method


def report_on(
    metrics: MetricSet,
    predictions: Predictions,
    pictures: Pictures,
    scoring: Scoring,
    *,
    checkpoint: Checkpoint,
    speed: dict[str, Any],
    folder: Path,
    folds: np.ndarray | None = None,
) -> EvalReport:
    """The report of predictions that came, at least partly, from this checkpoint.

    folds: int64 [N], where several folds scored a part each. Raises ConfigError for a column of
    `--by` that the data do not have.
    """
    groups = pictures.groups
    intervals, method = scoring.intervals(predictions, groups, folds)
    resampler = scoring.resampler(predictions, groups, folds)
    costs, notes = None, pictures.notes
    if scoring.costs is not None:
        costs = expected_costs(predictions, scoring.costs, resampler)
        if costs["saved"]["mean"] < 0:
            note = "decisions of the least expected cost cost more than the predicted classes here"
            notes = (*notes, f"{note}: the probabilities are not to be taken at their word")
    return EvalReport(
        checkpoint=checkpoint.folder,
        model_name=str(checkpoint.facts.get("model_name", checkpoint.card["architecture"])),
        split=pictures.split,
        fold=checkpoint.fold,
        data=dict(pictures.table.origin),
        metrics=metrics.metrics,
        speed_metrics=speed,
        undefined=metrics.undefined,
        class_names=checkpoint.class_names,
        per_class=metrics.per_class,
        confusion_matrix=metrics.confusion_matrix,
        confusions=metrics.confusions,
        folder=folder,
        intervals=intervals,
        intervals_method=method,
        coverage=coverage_table(predictions),
        operating_points=operating_points(predictions, checkpoint.class_names, groups),
        costs=costs,
        slices={
            name: slice_metrics(
                predictions,
                pictures.column(name),
                samples=scoring.ci_samples,
                seed=scoring.seed,
                groups=None if name == "group" else groups,
                folds=folds,
            )
            for name in scoring.by
        },
        bad_images=pictures.left_out,
        notes=notes,
        prior=_prior(checkpoint),
        trained_on=pictures.trained_on,
    )


def measured_speed(passes: Sequence[InferencePass], compute: ComputeSettings) -> dict[str, Any]:
    """The `speed_metrics` of one pass or several."""
    times_s = [time_s for part in passes for time_s in part.batch_times_s]
    sizes = [size for part in passes for size in part.batch_sizes]
    speed = speed_metrics(times_s, sizes, str(compute.device))
    return {**speed, "precision": amp_name(compute.precision)}


def _prior(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The shares of the classes that the model's probabilities take for granted, by class."""
    prior = checkpoint.facts.get("prior")
    if prior is None:
        return None
    shares = dict(zip(checkpoint.class_names, prior["shares"], strict=True))
    return {"imbalance": prior["imbalance"], "shares": shares}
