"""How well a model says what it does not know: `--conformal` and `--fit-unlike`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from imgcls.config.evaluate import EvaluateConfig
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.errors import ConfigError
from imgcls.jobs.evaluate.held_out import (
    farthest,
    fit_validation,
    run_features,
    sets_of,
    split_features,
)
from imgcls.jobs.evaluate.scored import Extra, Scored
from imgcls.jobs.scorer import open_scorer
from imgcls.metrics.conformal import ConformalSets
from imgcls.metrics.drift import clopper_pearson
from imgcls.metrics.novelty import held_out_class_detection
from imgcls.metrics.predictions import Predictions, blocks
from imgcls.results.comparison import Interval
from imgcls.results.unknown import Conformal, ConformalClass, Unlike, UnlikeClass
from imgcls.storage.held_out import FEATURES, VALIDATION, keep

# of the false alarms that `--fit-unlike` reports on
_RATE = 0.05
_ON_VAL = "was fitted on the val pictures: on them it looks too good"


def conformal_if_asked(config: EvaluateConfig, checkpoints: Sequence[Checkpoint]) -> Extra | None:
    """The part of `--conformal`. Raises ConfigError for several models."""
    return _of_one("--conformal", conformal, checkpoints) if config.conformal else None


def unlike_if_asked(config: EvaluateConfig, checkpoints: Sequence[Checkpoint]) -> Extra | None:
    """The part of `--fit-unlike`. Raises ConfigError for several models."""
    return _of_one("--fit-unlike", unlike, checkpoints) if config.fit_unlike else None


def conformal(scored: Scored) -> dict[str, Any]:
    """How often the sets hold the right class, and how large they are; the fit is kept."""
    session, [checkpoint], [heat] = scored.session, scored.checkpoints, scored.temperatures
    level = session.config.conformal
    assert scored.scorer is not None
    assert level is not None
    temperature = 1.0 if heat is None else heat.temperature
    validation = fit_validation(session, checkpoint, scored.scorer, temperature)
    sets = sets_of(validation, level, "--conformal")
    content = validation.content(checkpoint.weights_sha256)
    notes = _kept(checkpoint, VALIDATION, content, "the fit of --conformal")
    if scored.pictures.split == "val":
        notes.append(f"--conformal {_ON_VAL}")
    found = _conformal(sets, scored.predictions, scored.class_names, grouped=bool(scored.groups))
    return {"conformal": found, "notes": notes}


def unlike(scored: Scored) -> dict[str, Any]:
    """How often pictures of this split, and of classes left out, are called unlike; it is kept."""
    session, [checkpoint] = scored.session, scored.checkpoints
    plain = scored.scorer
    if plain is None or session.config.tta != "none":
        plain = open_scorer(checkpoint, session.compute)
    what = "--fit-unlike"
    with run_features(session, checkpoint, plain, what) as own:
        fitted = own.fitted(len(scored.class_names))
        caught = held_out_class_detection(
            own.train.features,
            own.train.labels,
            own.val.features,
            own.val.labels,
            _RATE,
            units=fitted.groups,
        )
    threshold = farthest(fitted, _RATE, what)
    content = fitted.content(checkpoint.weights_sha256)
    notes = _kept(checkpoint, FEATURES, content, "the fit of --fit-unlike")
    if scored.pictures.split == "val":
        notes.append(f"--fit-unlike {_ON_VAL}")
    parts = split_features(session, checkpoint, plain, scored.pictures, what)
    flagged = np.concatenate([fitted.statistics.distances(f) > threshold for _, f in parts])
    rows = zip(caught.classes, caught.pictures, caught.flagged, strict=True)
    classes = tuple(
        UnlikeClass(scored.class_names[label], int(pictures), float(share))
        for label, pictures, share in rows
    )
    found = Unlike(
        rate=_RATE,
        threshold=threshold,
        trained=fitted.trained,
        fitted_on=len(fitted.distances),
        units=len(np.unique(fitted.units)),
        pictures=len(flagged),
        false_alarms=float(flagged.mean()),
        interval=_interval(flagged, grouped=bool(scored.groups)),
        caught=float(caught.flagged.mean()) if classes else None,
        classes=classes,
    )
    return {"unlike": found, "notes": notes}


def _of_one(option: str, extra: Extra, checkpoints: Sequence[Checkpoint]) -> Extra:
    if len(checkpoints) > 1:
        raise ConfigError(
            f"{option}: rests on val pictures, and those of each fold were trained on by the "
            "others; name one of them with --fold, without --ensemble"
        )
    return extra


def _conformal(
    sets: ConformalSets, predictions: Predictions, class_names: Sequence[str], *, grouped: bool
) -> Conformal:
    count, num_classes = predictions.logits.shape
    sizes, held = np.empty(count, dtype=np.int64), np.empty(count, dtype=bool)
    for rows in blocks(count, num_classes):
        members = sets.members(predictions.softmax[rows])
        sizes[rows] = members.sum(axis=1)
        held[rows] = members[np.arange(len(members)), predictions.labels[rows]]
    of_class = [predictions.labels == label for label in range(num_classes)]
    classes = tuple(
        ConformalClass(
            name,
            int(own.sum()),
            float(held[own].mean()) if own.any() else None,
            float(sizes[own].mean()) if own.any() else None,
            own=bool(sets.own[label]),
        )
        for label, (name, own) in enumerate(zip(class_names, of_class, strict=True))
    )
    return Conformal(
        wanted=sets.coverage,
        fitted_on=sets.pictures,
        units=sets.units,
        pictures=count,
        coverage=float(held.mean()),
        interval=_interval(held, grouped=grouped),
        macro_coverage=float(np.mean([c.coverage for c in classes if c.coverage is not None])),
        mean_size=float(sizes.mean()),
        single=float((sizes == 1).mean()),
        marginal_only=tuple(c.class_name for c in classes if not c.own),
        classes=classes,
    )


def _interval(found: np.ndarray, *, grouped: bool) -> Interval | None:
    """The 95% interval of a share (Clopper-Pearson); None of groups, which are not independent."""
    if grouped:
        return None
    low, high = clopper_pearson(np.array([found.sum()]), len(found))
    return float(low[0]), float(high[0])


def _kept(checkpoint: Checkpoint, name: str, content: bytes, what: str) -> list[str]:
    why_not = keep(checkpoint.folder, name, content)
    return [] if why_not is None else [f"{why_not}; {what} is made again when it is needed"]
