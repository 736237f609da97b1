"""Score one checkpoint on some pictures: the numbers, and the logits on disk."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from imgcls.data.loading.bad_images import BadImages
from imgcls.data.loading.loader import EvalLoader, resolve_workers
from imgcls.data.pixels.transforms import eval_transform
from imgcls.engine.checkpoint.folder import Checkpoint, load_weights
from imgcls.engine.checkpoint.temperature import Temperature
from imgcls.engine.device.batches import Batch, ComputeSettings, Normalizer
from imgcls.engine.scoring.inference import InferencePass, predict
from imgcls.jobs.evaluate.calibrate import calibration_notes, describe_calibration
from imgcls.jobs.evaluate.pictures import Pictures
from imgcls.jobs.evaluate.report import Scoring, measured_speed, report_on
from imgcls.metrics.calculator import MetricsCalculator, MetricSet
from imgcls.metrics.predictions import Predictions
from imgcls.models.card import model_from_card, preprocessing_from_card
from imgcls.results.evaluation import EvalReport
from imgcls.storage.evaluations import LOGITS
from imgcls.storage.scores import ScoreFile

OnBatch = Callable[[int, int], None]


def ignore_batches(_done: int, _total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A checkpoint's model, and pictures the way it wants them."""

    model: nn.Module
    batches: EvalLoader
    normalizer: Normalizer
    compute: ComputeSettings

    def predict(
        self, file: ScoreFile, on_batch: OnBatch = ignore_batches, temperature: float = 1.0
    ) -> Predictions:
        """The predictions of one pass, their scores in the file."""
        done = counted(on_batch, len(self.batches))
        result = predict(
            self.model,
            self.batches,
            self.normalizer,
            self.compute,
            done,
            file=file,
            temperature=temperature,
        )
        return result.predictions


def prepare(
    checkpoint: Checkpoint,
    pictures: Pictures,
    compute: ComputeSettings,
    scoring: Scoring,
    model: nn.Module | None = None,
) -> Prepared:
    """Load a verified checkpoint's model and open the pictures for it.

    model: the checkpoint's architecture with any weights, where it was built already.
    """
    model = model or model_from_card(checkpoint.card)
    load_weights(model, checkpoint)
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
        bad_images=BadImages(may_skip=not scoring.skips),
    )
    normalizer = Normalizer(facts.mean, facts.std, compute)
    return Prepared(compute.place(model), batches, normalizer, compute)


def counted(on_batch: OnBatch, total: int) -> Callable[[int], None]:
    """Tells on_batch (batches done, batches in all) now, with none, and each time it is called."""
    on_batch(0, total)
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
    folder: Path,
    temperature: Temperature | None = None,
    on_batch: OnBatch = ignore_batches,
) -> tuple[EvalReport, InferencePass]:
    """The report of a verified checkpoint on some pictures, and the pass it comes from.

    folder: a new one, where the logits then lie in `logits.npy`.
    """
    prepared = prepare(checkpoint, pictures, compute, scoring)
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
    report = report_on(
        metrics,
        result.predictions,
        pictures,
        scoring,
        checkpoint=checkpoint,
        speed=measured_speed([result], compute),
        folder=folder,
    )
    if temperature is not None:
        after = result.predictions
        notes = calibration_notes(temperature, replace(after, temperature=1.0), after)
        described = describe_calibration(temperature, after)
        report = replace(report, calibration=described, notes=(*report.notes, *notes))
    return report, result
