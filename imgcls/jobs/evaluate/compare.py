"""Another checkpoint on the same pictures: differences, their intervals, and who changed sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from imgcls.config.evaluate import EvaluateConfig
from imgcls.engine.checkpoint.folder import Checkpoint, read_checkpoint
from imgcls.errors import ConfigError
from imgcls.jobs.evaluate.calibrate import calibrated, kept_temperature
from imgcls.jobs.evaluate.pictures import Pictures
from imgcls.jobs.evaluate.scored import Extra, Opened, Scored
from imgcls.jobs.evaluate.trained_on import other_has_seen, trained_on
from imgcls.jobs.plan.tables import table_for
from imgcls.jobs.scorer import open_scorer
from imgcls.metrics.comparison import mcnemar, paired_differences
from imgcls.metrics.predictions import PictureOutcomes
from imgcls.metrics.scores import class_counts
from imgcls.results.comparison import ChangedPicture, Comparison, RecallChange
from imgcls.storage.pointers import find_checkpoint
from imgcls.storage.scores import temporary_scores


def compare_if_asked(config: EvaluateConfig, checkpoints: Sequence[Checkpoint]) -> Extra | None:
    """The part of `--compare`. Raises ConfigError when the other model knows other classes."""
    if config.compare is None:
        return None
    fold = config.fold if isinstance(config.fold, int) else None
    other = read_checkpoint(find_checkpoint(config.compare, fold))
    differing = set(other.class_names) ^ set(checkpoints[0].class_names)
    if differing:
        raise ConfigError(
            f"--compare {config.compare}: the two models know different classes "
            f"({', '.join(sorted(differing))} only in one), so their numbers cannot be compared"
        )
    return partial(compare, other=other)


def compare(scored: Scored, other: Checkpoint) -> dict[str, Any]:
    """This model and another on the same pictures. Its scores lie below the folder meanwhile."""
    predictions, names = scored.predictions, scored.class_names
    against = _answers(scored, other)
    seen = trained_on([other], scored.pictures, scored.session.config.workers)
    note = other_has_seen(other, seen)
    comparison = Comparison(
        checkpoint=other.folder,
        model_name=other.model_name,
        metrics=paired_differences(predictions.outcomes, [against], scored.resampler),
        mcnemar=mcnemar(predictions.outcomes, against),
        per_class=_per_class(predictions.outcomes, against, names),
        changed=tuple(
            ChangedPicture(
                path=predictions.keys[row],
                label=names[predictions.labels[row]],
                this=names[predictions.predicted[row]],
                other=names[against.predicted[row]],
                now_right=bool(predictions.correct[row]),
            )
            for row in (predictions.correct != against.correct).nonzero()[0]
        ),
        trained_on=seen.counts(),
    )
    return {"comparison": comparison, "notes": (note,) if note else ()}


def _answers(scored: Scored, other: Checkpoint) -> PictureOutcomes:
    """What the other model says of each picture, in this model's order of classes.

    The pictures are decoded and prepared as the other model's own.
    """
    session, pictures = scored.session, scored.pictures
    table = table_for(other, pictures.table, session.config.reading)
    theirs: Pictures = replace(pictures, table=table)
    temperature = kept_temperature(session.config, other)
    opened = calibrated(Opened(other, open_scorer(other, session.compute)), temperature)
    with temporary_scores(scored.folder, len(theirs.indices)) as file:
        outcomes = session.run(opened, theirs, file).predictions.outcomes
    number = {name: index for index, name in enumerate(scored.class_names)}
    ours = np.array([number[name] for name in other.class_names])
    return replace(outcomes, labels=ours[outcomes.labels], predicted=ours[outcomes.predicted])


def _per_class(
    this: PictureOutcomes, other: PictureOutcomes, class_names: Sequence[str]
) -> tuple[RecallChange, ...]:
    counts = [class_counts(p.labels, p.predicted, len(class_names)) for p in (this, other)]
    rows = [
        RecallChange(name, int(support), float(ours), float(theirs), float(ours - theirs))
        for name, support, ours, theirs in zip(
            class_names, counts[0].support, counts[0].recall, counts[1].recall, strict=True
        )
        if support
    ]
    return tuple(sorted(rows, key=lambda row: -abs(row.difference)))
