"""Score several folds, or several views of each picture, as one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.engine.checkpoint.temperature import Temperature
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.scoring.ensembles import VIEWS, Together
from imgcls.engine.scoring.inference import predict
from imgcls.errors import CheckpointError
from imgcls.jobs.checkpoint_config import decoding_of
from imgcls.jobs.evaluate.calibrate import calibration_notes
from imgcls.jobs.evaluate.pictures import Pictures
from imgcls.jobs.evaluate.report import Scoring, measured_speed, report_on
from imgcls.jobs.evaluate.score import OnBatch, counted, ignore_batches, prepare
from imgcls.metrics.blocks import blocks
from imgcls.metrics.calculator import MetricsCalculator
from imgcls.metrics.comparison import paired_differences
from imgcls.metrics.predictions import PictureFacts, Predictions
from imgcls.models.card import preprocessing_from_card
from imgcls.results.evaluation import EvalReport
from imgcls.storage.evaluations import LOGITS
from imgcls.storage.scores import ScoreFile, temporary_scores


def score_together(
    checkpoints: Sequence[Checkpoint],
    temperatures: Sequence[Temperature | None],
    pictures: Pictures,
    compute: ComputeSettings,
    *,
    scoring: Scoring,
    tta: str,
    folder: Path,
    on_batch: OnBatch = ignore_batches,
) -> tuple[EvalReport, Predictions]:
    """The report and predictions of the averaged probabilities, in one pass over the pictures.

    tta: the views of each picture, a name in VIEWS. The report's `ensemble` says what averaging
    gains over the mean of the models alone, each without views. folder: a new one, whose
    `logits.npy` holds the logarithms of the averaged probabilities. Raises CheckpointError for
    checkpoints that do not take the same pictures.
    """
    first = checkpoints[0]
    for other in checkpoints[1:]:
        alike = preprocessing_from_card(other.card) == preprocessing_from_card(first.card)
        if not alike or decoding_of(other) != decoding_of(first):
            raise CheckpointError(
                f"{other.folder}: prepares pictures in another way than {first.folder}, so the two "
                "cannot be averaged"
            )
    prepared = [prepare(checkpoint, pictures, compute, scoring) for checkpoint in checkpoints]
    together = Together(
        [part.model for part in prepared],
        VIEWS[tta],
        [1.0 if found is None else found.temperature for found in temperatures],
    )
    batches = prepared[0].batches

    def scored(
        answers: ScoreFile,
    ) -> tuple[Predictions, list[PictureFacts], list[str], dict[str, Any]]:
        # a function, so that nothing maps the members' answers when they are removed
        result = predict(
            together,
            batches,
            prepared[0].normalizer,
            compute,
            counted(on_batch, len(batches)),
            file=answers,
        )
        scores = result.logits
        with ScoreFile(folder / LOGITS, len(scores)) as file:
            for rows in blocks(len(scores), scores[0].size):
                file.append(scores[rows, 0])
            mean = Predictions(result.keys, file.mapped(), result.labels)
        members = [
            Predictions(result.keys, scores[:, 1 + index], result.labels)
            for index in range(len(checkpoints))
        ]
        alone = [member.facts for member in members]
        notes = [
            f"fold {checkpoint.fold}: {note}" if len(checkpoints) > 1 else note
            for checkpoint, heat, after in zip(checkpoints, temperatures, members, strict=True)
            if heat is not None
            # these logits are divided already
            for note in calibration_notes(
                heat, replace(after, temperature=1 / heat.temperature), after
            )
        ]
        return mean, alone, notes, measured_speed([result], compute)

    with temporary_scores(folder, len(pictures.indices)) as answers:
        mean, alone, notes, speed = scored(answers)
    gain = paired_differences(mean.facts, alone, scoring.resampler(mean, pictures.groups))
    metrics = MetricsCalculator(first.class_names, scoring.top_k).compute(mean)
    report = report_on(
        metrics,
        mean,
        pictures,
        scoring,
        checkpoint=first,
        speed=speed,
        folder=folder,
    )
    report = replace(
        report,
        fold="all" if len(checkpoints) > 1 else first.fold,
        notes=(*report.notes, *notes),
        ensemble={
            "folds": [checkpoint.fold for checkpoint in checkpoints],
            "tta": tta,
            "views": len(VIEWS[tta]),
            "temperatures": [None if t is None else t.temperature for t in temperatures],
            "samples": report.metrics["samples"],
            "gain": gain,
        },
    )
    return report, mean
