"""When a prediction says that it does not know: sets of classes, and the flags of a row."""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.config.evaluate import EvaluateConfig
from imgcls.config.predict import PredictConfig
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import amp_name
from imgcls.errors import BadImageError, CheckpointError, ConfigError, DataError, RunError
from imgcls.jobs.evaluate.held_out import (
    farthest,
    fit_validation,
    require_units,
    run_features,
    sets_of,
)
from imgcls.jobs.evaluate.pictures import has_split
from imgcls.jobs.evaluate.result_folders import ResultFolders
from imgcls.jobs.evaluate.scored import OnBatch, Session
from imgcls.jobs.scorer import averaged, open_scorer
from imgcls.metrics.conformal import ConformalSets
from imgcls.metrics.novelty import FeatureStatistics
from imgcls.metrics.selective import AnswerThreshold, fewest_answers, fit_answer_threshold
from imgcls.output.numbers import percent
from imgcls.results.prediction import UNLIKE, UNSURE
from imgcls.storage.held_out import (
    FEATURES,
    VALIDATION,
    TrainedFeatures,
    Validation,
    keep,
    read_features,
    read_validation,
)
from imgcls.storage.runs import run_of


@dataclass(frozen=True, eq=False)
class Doubts:
    """What is said of each prediction, and what the val pictures were predicted as.

    farthest: the distance from which on a picture is unlike those of training. made_by: what the
    sets and flags follow from, by names; see PredictionFiles. notes: what is to be known of them.
    """

    sets: ConformalSets | None = None
    answer: AnswerThreshold | None = None
    statistics: FeatureStatistics | None = None
    farthest: float = math.inf
    validation: Validation | None = None
    features: TrainedFeatures | None = None
    made_by: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def flags(self, probabilities: np.ndarray, features: np.ndarray | None) -> list[str | None]:
        """The flag of each picture: UNLIKE, which goes before UNSURE, or None.

        probabilities: float32 [n, C]. features: float32 [n, D], of pictures as they are.
        """
        unsure = np.zeros(len(probabilities), dtype=bool)
        unlike = unsure.copy()
        if self.answer is not None:
            unsure = probabilities.max(axis=1) < self.answer.threshold
        if self.statistics is not None and features is not None:
            unlike = self.statistics.distances(features) > self.farthest
        both = zip(unsure.tolist(), unlike.tolist(), strict=True)
        return [UNLIKE if far else UNSURE if doubted else None for doubted, far in both]

    def ordered_sets(
        self, probabilities: np.ndarray, order: np.ndarray
    ) -> Iterator[list[int]] | None:
        """The classes in each picture's set; None where no sets were asked for.

        order: int64 [n, C], the classes of each picture as its set is to have them.
        """
        if self.sets is None:
            return None
        members = np.take_along_axis(self.sets.members(probabilities), order, axis=1)
        members[:, 0] = True  # of equal probabilities, the class that the row names
        return (classes[held].tolist() for classes, held in zip(order, members, strict=True))


NO_DOUBTS = Doubts()
Say = Callable[[str], None]
OnProgress = Callable[[int, "int | None"], None]


def find_doubts(
    config: PredictConfig,
    checkpoint: Checkpoint,
    temperature: float,
    compute: ComputeSettings,
    *,
    say: Say,
    on_progress: OnProgress | None = None,
) -> Doubts:
    """What the options ask for, by what is kept with the checkpoint, or fitted and kept now.

    temperature: what its logits are divided by. say: gets what is done and what to expect.
    on_progress: gets the pictures done, and in all, of each pass. Raises ConfigError where there
    are no or too few val pictures for it, CheckpointError for what is kept and damaged or of other
    weights, else as `own_pictures`.
    """

    def on_batch(done: int, batches: int) -> None:
        if on_progress is not None:
            on_progress(done * config.batch_size, batches * config.batch_size)

    finder = _Finder(config, checkpoint, temperature, compute, say, on_batch)
    validation = finder.validation()
    features = None if config.unlike is None else finder.features()
    asked = [config.sets, config.max_error]
    doubts = Doubts(
        validation=validation,
        features=features,
        made_by={
            "sets": config.sets,
            "max_error": config.max_error,
            "unlike": config.unlike,
            "validation": validation.digest if validation and any(asked) else None,
            "trained_features": None if features is None else features.digest,
        },
        notes=tuple(finder.notes),
    )
    if validation is not None and config.sets is not None:
        doubts = replace(doubts, sets=sets_of(validation, config.sets, "--sets"))
    if validation is not None and config.max_error is not None:
        doubts = replace(doubts, answer=_answer(validation, config.max_error, say))
    if features is not None and config.unlike is not None:
        doubts = replace(
            doubts,
            statistics=features.statistics,
            farthest=farthest(features, config.unlike, f"--unlike {config.unlike:g}"),
        )
    return doubts


def _answer(validation: Validation, max_error: float, say: Say) -> AnswerThreshold:
    option = f"--max-error {max_error:g}"
    require_units(option, validation.units, fewest_answers(max_error))
    correct = validation.predicted == validation.labels
    found = fit_answer_threshold(
        validation.confidences, correct, max_error, units=validation.groups
    )
    if not found.answered:
        raise ConfigError(
            f"{option}: no confidence vouches for that: of the surest of the run's "
            f"{len(correct):,} val pictures up to {found.upper:.1%} may be wrong; allow more, or "
            "validate on more pictures"
        )
    answered = round(found.answered * found.pictures)
    say(
        f"{option}: would answer {answered:,} of the {found.pictures:,} val pictures "
        f"({percent(found.answered, found.pictures)}); of the answers at most {found.upper:.1%} "
        f"are wrong, with {found.confidence_level:.0%} confidence"
    )
    return found


@dataclass(eq=False)
class _Finder:
    """What is kept with the checkpoint, or fitted and kept now."""

    config: PredictConfig
    checkpoint: Checkpoint
    temperature: float
    compute: ComputeSettings
    say: Say
    on_batch: OnBatch
    notes: list[str] = field(default_factory=list)

    def validation(self) -> Validation | None:
        """Of the val pictures; None where it is only to be compared with, and not there."""
        config = self.config
        option = "--sets" if config.sets is not None else "--max-error"
        asked = config.sets is not None or config.max_error is not None
        try:
            found = read_validation(*self._place)
        except CheckpointError as error:
            if asked:
                raise
            self.notes.append(f"{error}; until then these pictures are not compared with val's")
            return None
        if found is not None and found.tta == config.tta:
            # neither another temperature nor rounding moves many to another class
            if not asked or (found.temperature, found.amp) == (self.temperature, self._amp):
                return found
        elif not asked:
            return None
        other = f" ({VALIDATION} is by another temperature, --tta or --amp)"
        why = "" if found is None else other
        with self._fitting(option, "--conformal 0.9"):
            self.say(f"{option}: scores the run's val pictures first{why}")
            plain = open_scorer(self.checkpoint, self.compute, self.temperature)
            scorer = (
                plain if config.tta == "none" else averaged([plain], config.tta, [self.checkpoint])
            )
            found = fit_validation(self._session, self.checkpoint, scorer, self.temperature)
        self._keep(VALIDATION, found.content(self.checkpoint.weights_sha256))
        return found

    def features(self) -> TrainedFeatures:
        """Of the training pictures."""
        found = read_features(*self._place)
        if found is not None and found.amp == self._amp:
            return found
        why = "" if found is None else f" ({FEATURES} is by another --amp)"
        with self._fitting("--unlike", "--fit-unlike"):
            self.say(
                "--unlike: computes the features of the run's training and val pictures first" + why
            )
            plain = open_scorer(self.checkpoint, self.compute)
            with run_features(self._session, self.checkpoint, plain, "--unlike") as own:
                found = own.fitted(len(self.checkpoint.class_names))
        self._keep(FEATURES, found.content(self.checkpoint.weights_sha256))
        return found

    @property
    def _place(self) -> tuple[Path, str, int]:
        one = self.checkpoint
        return one.folder, one.weights_sha256, len(one.class_names)

    @property
    def _amp(self) -> str:
        return amp_name(self.compute.precision)

    @property
    def _session(self) -> Session:
        config = self.config
        scoring = EvaluateConfig(
            tta=config.tta,
            batch_size=config.batch_size,
            workers=config.workers,
            reading=config.reading,
        )
        folder = self.checkpoint.folder
        return Session(folder, scoring, self.compute, ResultFolders(), self.on_batch)

    @contextlib.contextmanager
    def _fitting(self, option: str, fit: str) -> Iterator[None]:
        folder = self.checkpoint.folder
        if run_of(folder) is None:
            raise ConfigError(
                f"{option}: is fitted on the run's val pictures, and {folder} lies in no run, or "
                "its run has lost splits.csv, so there are none"
            )
        if not has_split(self.checkpoint, "val"):
            raise ConfigError(f"{option}: is fitted on val pictures, and the run has none")
        try:
            yield
        except (DataError, RunError, BadImageError) as error:
            command = f"imgcls evaluate {shlex.quote(str(folder))} {fit}"
            raise type(error)(
                f"{option}: is fitted on the run's own pictures: {error}; `{command}` fits it too, "
                "and takes --data and --on-bad-image"
            ) from error

    def _keep(self, name: str, content: bytes) -> None:
        why_not = keep(self.checkpoint.folder, name, content)
        if why_not is None:
            self.say(f"kept for the next time: {self.checkpoint.folder / name}")
        else:
            self.notes.append(f"{why_not}; it is fitted again the next time")
