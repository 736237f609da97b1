"""Score several folds, or several views of each picture, as one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.engine.scoring.ensembles import VIEWS
from imgcls.errors import CheckpointError
from imgcls.jobs.checkpoint_config import decoding_of
from imgcls.jobs.evaluate.calibrate import calibration_notes
from imgcls.jobs.evaluate.pictures import Pictures
from imgcls.jobs.evaluate.scored import Opened, Scored, Session
from imgcls.jobs.scorer import averaged
from imgcls.metrics.comparison import paired_differences
from imgcls.metrics.predictions import Predictions, blocks
from imgcls.results.evaluation import EnsembleGain
from imgcls.storage.evaluations import LOGITS
from imgcls.storage.scores import ScoreFile, temporary_scores


def require_same_pictures(checkpoints: Sequence[Checkpoint]) -> None:
    """Raise CheckpointError for checkpoints that do not decode pictures in the same way."""
    first, *others = checkpoints
    for other in others:
        if decoding_of(other) != decoding_of(first):
            raise CheckpointError(
                f"{other.folder}: decodes pictures in another way than {first.folder}, so the two "
                "cannot be averaged"
            )


def score_ensemble(
    session: Session, members: Sequence[Opened], pictures: Pictures, folder: Path
) -> Scored:
    """What the members make of the pictures, averaged over them and over the views of `--tta`.

    One pass over the pictures. folder: a new one, whose `logits.npy` then holds the logarithms of
    the averaged probabilities.
    """
    with temporary_scores(folder, len(pictures.indices)) as answers:
        return _scored(session, members, pictures, folder, answers)


def averaging(scored: Scored) -> dict[str, Any]:
    """The folds and views that were averaged, and their gain over the mean of the models alone."""
    tta = scored.session.config.tta
    outcomes = scored.predictions.outcomes
    return {
        "ensemble": EnsembleGain(
            folds=tuple(checkpoint.fold for checkpoint in scored.checkpoints),
            models=_models(scored.checkpoints),
            tta=tta,
            views=len(VIEWS[tta]),
            temperatures=tuple(None if t is None else t.temperature for t in scored.temperatures),
            samples=scored.metrics.metrics["samples"],
            gain=paired_differences(outcomes, scored.members, scored.resampler),
        ),
        "notes": scored.member_notes,
    }


def _scored(
    session: Session,
    members: Sequence[Opened],
    pictures: Pictures,
    folder: Path,
    answers: ScoreFile,
) -> Scored:
    # a function, so that nothing maps the members' answers when they are removed
    ensemble = averaged(
        [member.scorer for member in members],
        session.config.tta,
        [member.checkpoint for member in members],
    )
    batches = session.batches([member.checkpoint for member in members], pictures)
    result = ensemble.run(batches, session.counted(len(batches)), file=answers)
    scores, models = result.logits, _models([member.checkpoint for member in members])
    with ScoreFile(folder / LOGITS, len(scores)) as file:
        for rows in blocks(len(scores), scores[0].size):
            file.append(scores[rows, 0])
        mean = Predictions(result.keys, file.mapped(), result.labels)
    alone = [
        Predictions(result.keys, scores[:, 1 + index], result.labels)
        for index in range(len(members))
    ]
    return Scored(
        session=session,
        checkpoints=tuple(member.checkpoint for member in members),
        temperatures=tuple(member.temperature for member in members),
        pictures=pictures,
        predictions=mean,
        folder=folder,
        batch_times_s=result.batch_times_s,
        batch_sizes=result.batch_sizes,
        scorer=ensemble,
        members=tuple(one.outcomes for one in alone),
        member_notes=tuple(
            f"{_name(member.checkpoint, models)}: {note}" if len(members) > 1 else note
            for member, one in zip(members, alone, strict=True)
            for note in _member_notes(member, one)
        ),
    )


def _models(checkpoints: Sequence[Checkpoint]) -> tuple[str, ...] | None:
    """The model of each checkpoint; None where they are all of one."""
    names = tuple(checkpoint.model_name for checkpoint in checkpoints)
    return names if len(set(names)) > 1 else None


def _name(checkpoint: Checkpoint, models: tuple[str, ...] | None) -> str:
    return f"fold {checkpoint.fold}" if models is None else checkpoint.model_name


def _member_notes(member: Opened, after: Predictions) -> tuple[str, ...]:
    heat = member.temperature
    if heat is None:
        return ()
    # these logits are divided already
    return calibration_notes(heat, replace(after, temperature=1 / heat.temperature), after)
