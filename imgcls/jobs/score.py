"""Score one checkpoint on some pictures: the numbers, and the logits on disk."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from imgcls.data.loader import EvalLoader, resolve_workers
from imgcls.data.transforms import eval_transform
from imgcls.engine.batches import Batch, ComputeSettings, Normalizer
from imgcls.engine.checkpoint import Checkpoint, load_checkpoint
from imgcls.engine.inference import InferencePass, predict
from imgcls.engine.runtime import amp_name
from imgcls.engine.score_file import ScoreFile
from imgcls.engine.temperature import Temperature
from imgcls.errors import DataError
from imgcls.jobs.calibrate import describe_calibration
from imgcls.jobs.pictures import Pictures
from imgcls.metrics.calculator import MetricsCalculator, MetricSet
from imgcls.metrics.intervals import Interval, bootstrap_intervals, ranks_affordable
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.resampling import Resampler
from imgcls.metrics.speed import speed_metrics
from imgcls.models.card import model_from_card, preprocessing_from_card
from imgcls.report.evaluation_files import LOGITS
from imgcls.results import EvalReport

OnBatch = Callable[[int, int], None]


def ignore_batches(_done: int, _total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Scoring:
    """How pictures are fed and which numbers are wanted; ci_samples 0 gives no intervals."""

    batch_size: int
    workers: int | str
    top_k: tuple[int, ...] = (1, 3, 5)
    ci_samples: int = 1000
    seed: int = 0

    def resampler(self, predictions: Predictions, groups: Sequence[str] | None) -> Resampler | None:
        """Resamples for paired intervals; None where none are wanted or can be drawn."""
        if not self.ci_samples:
            return None
        with contextlib.suppress(DataError):
            return Resampler(predictions.labels, self.ci_samples, self.seed, groups)
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
                predictions, self.ci_samples, self.seed, groups, strata=folds, top_k=self.top_k
            )
        except DataError as error:
            return {}, str(error)
        what = "pictures" if groups is None else "groups"
        within = "class" if folds is None else "fold and class"
        method = f"bootstrap of {what} within each {within}, {self.ci_samples:,} resamples"
        if not ranks_affordable(predictions, self.ci_samples):
            method += "; none for ROC AUC and average precision, they would take too long"
        return found, method


@dataclass(frozen=True, eq=False)
class Prepared:
    """A checkpoint's model, and pictures the way it wants them."""

    model: nn.Module
    batches: EvalLoader
    normalizer: Normalizer
    compute: ComputeSettings

    def predict(self, on_batch: OnBatch = ignore_batches, temperature: float = 1.0) -> Predictions:
        """The predictions of one pass, in memory."""
        done = counted(on_batch, len(self.batches))
        result = predict(
            self.model, self.batches, self.normalizer, self.compute, done, temperature=temperature
        )
        return result.predictions


def prepare(
    checkpoint: Checkpoint, pictures: Pictures, compute: ComputeSettings, scoring: Scoring
) -> Prepared:
    """Load a verified checkpoint's model and open the pictures for it."""
    model = model_from_card(checkpoint.card)
    load_checkpoint(model, checkpoint.folder)
    facts = preprocessing_from_card(checkpoint.card)
    batches = EvalLoader(
        pictures.table,
        pictures.indices,
        eval_transform(facts),
        batch_size=scoring.batch_size,
        workers=resolve_workers(
            scoring.workers,
            in_memory=pictures.table.defaults.in_memory,
            device_type=compute.device.type,
        ),
        device_type=compute.device.type,
    )
    normalizer = Normalizer(facts.mean, facts.std, compute)
    return Prepared(compute.place(model), batches, normalizer, compute)


def counted(on_batch: OnBatch, total: int) -> Callable[[int], None]:
    """Tells on_batch (batches done, batches in all) each time it is called."""
    done = itertools.count(1)
    return lambda _samples: on_batch(next(done), total)


def evaluate_model(
    model: nn.Module,
    batches: Iterable[Batch],
    normalizer: Normalizer,
    compute: ComputeSettings,
    class_names: Sequence[str],
    *,
    top_k: Sequence[int] = (1, 3, 5),
    on_batch: Callable[[int], None] = lambda _samples: None,
    file: ScoreFile | None = None,
    temperature: float = 1.0,
) -> tuple[MetricSet, InferencePass]:
    """All metrics of a model over batches of pictures, and the pass they come from.

    file: where the logits go; without it they stay in memory. temperature: divides the logits
    inside the softmax.
    """
    result = predict(
        model, batches, normalizer, compute, on_batch, file=file, temperature=temperature
    )
    return MetricsCalculator(class_names, top_k).compute(result.predictions), result


def score(
    checkpoint: Checkpoint,
    pictures: Pictures,
    compute: ComputeSettings,
    *,
    scoring: Scoring,
    temperature: Temperature | None = None,
    on_batch: OnBatch = ignore_batches,
) -> tuple[EvalReport, InferencePass]:
    """The report of a verified checkpoint on some pictures, and the pass it comes from.

    The logits lie in `logits.npy` in the report's folder, which is made.
    """
    prepared = prepare(checkpoint, pictures, compute, scoring)
    folder = results_folder(checkpoint.folder) / pictures.split
    with ScoreFile(folder / LOGITS, len(pictures.indices)) as file:
        metrics, result = evaluate_model(
            prepared.model,
            prepared.batches,
            prepared.normalizer,
            compute,
            checkpoint.class_names,
            top_k=scoring.top_k,
            on_batch=counted(on_batch, len(prepared.batches)),
            file=file,
            temperature=1.0 if temperature is None else temperature.temperature,
        )
    intervals, method = scoring.intervals(result.predictions, pictures.groups)
    report = EvalReport(
        checkpoint=checkpoint.folder,
        model_name=model_name(checkpoint),
        split=pictures.split,
        fold=checkpoint.fold,
        metrics=metrics.metrics,
        speed_metrics=measured_speed([result], compute),
        undefined=metrics.undefined,
        class_names=checkpoint.class_names,
        per_class=metrics.per_class,
        confusion_matrix=metrics.confusion_matrix,
        folder=folder,
        intervals=intervals,
        intervals_method=method,
        calibration=None
        if temperature is None
        else describe_calibration(temperature, result.predictions),
        bad_images=pictures.left_out,
        notes=pictures.notes,
        prior=prior_of(checkpoint),
    )
    return report, result


def model_name(checkpoint: Checkpoint) -> str:
    """Timm's name of the checkpoint's architecture, with the tag it was trained from."""
    return str(checkpoint.facts.get("model_name", checkpoint.card["architecture"]))


def measured_speed(passes: Sequence[InferencePass], compute: ComputeSettings) -> dict[str, Any]:
    """The `speed_metrics` of one pass or several."""
    times_s = [time_s for part in passes for time_s in part.batch_times_s]
    sizes = [size for part in passes for size in part.batch_sizes]
    speed = speed_metrics(times_s, sizes, str(compute.device))
    return {**speed, "precision": amp_name(compute.precision)}


def prior_of(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The shares of the classes that the model's probabilities take for granted, by class."""
    prior = checkpoint.facts.get("prior")
    if prior is None:
        return None
    shares = dict(zip(checkpoint.class_names, prior["shares"], strict=True))
    return {"imbalance": prior["imbalance"], "shares": shares}


def results_folder(checkpoint: Path) -> Path:
    """Where the evaluations of a checkpoint lie."""
    parent = checkpoint.parent
    return (parent.parent if parent.name == "checkpoints" else parent) / "test_results"
