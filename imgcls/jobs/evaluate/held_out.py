"""What a model makes of its run's val pictures, and of training's features: fitted and kept."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.engine.device.runtime import amp_name
from imgcls.engine.scoring.scorer import Scorer
from imgcls.errors import ConfigError
from imgcls.jobs.evaluate.pictures import Pictures, own_pictures
from imgcls.jobs.evaluate.scored import Session
from imgcls.jobs.scorer import first_answers, with_features
from imgcls.metrics.conformal import ConformalSets, fewest_units, fit_sets
from imgcls.metrics.novelty import fit_statistics, novelty_threshold
from imgcls.metrics.predictions import Predictions
from imgcls.storage.held_out import TrainedFeatures, Validation, unit_numbers
from imgcls.storage.runs import run_of
from imgcls.storage.scores import temporary_scores
from imgcls.storage.splits import keys_in, read_splits


def fit_validation(
    session: Session, checkpoint: Checkpoint, scorer: Scorer, temperature: float
) -> Validation:
    """The run's val pictures as the scorer sees them, over the views of `--tta`.

    temperature: the checkpoint's, which the scorer has in it. Raises as `own_pictures`.
    """
    val = own_pictures(checkpoint, "val", session.config)
    batches = session.batches([checkpoint], val)
    told = session.counted(len(batches))
    parts = []
    for batch, scores in scorer.scores(batches):
        scores.require_finite()
        labels = batch.labels.numpy()[batch.valid.numpy()]
        logits = first_answers(scores.logits)
        said = Predictions(scores.keys, logits, labels, scorer.temperature).outcomes
        parts.append((labels, said.predicted, said.label_probabilities, said.confidences))
        told(len(labels))
    labels, predicted, own, confidences = (np.concatenate(p) for p in zip(*parts, strict=True))
    return Validation(
        labels=labels,
        predicted=predicted,
        own_probabilities=own,
        confidences=confidences,
        units=unit_numbers(val.groups, len(labels)),
        prevalence=_prevalence(checkpoint),
        temperature=temperature,
        tta=session.config.tta,
        amp=amp_name(session.compute.precision),
    )


@dataclass(frozen=True, eq=False)
class SplitFeatures:
    """The pooled features of a split's N pictures: float32 [N, D]; labels, units: int64 [N]."""

    features: np.ndarray
    labels: np.ndarray
    units: np.ndarray


@dataclass(frozen=True, eq=False)
class RunFeatures:
    """The features of a run's training and val pictures."""

    train: SplitFeatures
    val: SplitFeatures
    amp: str

    def fitted(self, num_classes: int) -> TrainedFeatures:
        """What is kept of them."""
        statistics = fit_statistics(self.train.features, self.train.labels, num_classes)
        distances = statistics.distances(self.val.features)
        trained = len(self.train.labels)
        return TrainedFeatures(statistics, distances, self.val.units, trained, self.amp)


@contextlib.contextmanager
def run_features(
    session: Session, checkpoint: Checkpoint, scorer: Scorer, what: str
) -> Iterator[RunFeatures]:
    """The features of the run's own pictures; they lie in a temporary file, and go with the block.

    scorer: of single views. what: the option that messages name. Raises ModelError for a model
    without pooled features, else as `own_pictures`.
    """
    train, val = (own_pictures(checkpoint, split, session.config) for split in ("train", "val"))
    with temporary_scores(Path(tempfile.gettempdir()), len(train.indices)) as file:
        labels = []
        for more, features in split_features(session, checkpoint, scorer, train, what):
            labels.append(more)
            file.append(features)
        trained = SplitFeatures(file.mapped(), np.concatenate(labels), _units(train))
        parts = split_features(session, checkpoint, scorer, val, what)
        own, rows = (np.concatenate(part) for part in zip(*parts, strict=True))
        amp = amp_name(session.compute.precision)
        yield RunFeatures(trained, SplitFeatures(rows, own, _units(val)), amp)
        del trained


def split_features(
    session: Session, checkpoint: Checkpoint, scorer: Scorer, pictures: Pictures, what: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(labels int64 [n], features float32 [n, D]) of each batch of the pictures."""
    batches = session.batches([checkpoint], pictures)
    told = session.counted(len(batches))
    for batch, scores, features in with_features(scorer, batches, "none", what):
        scores.require_finite()
        yield batch.labels.numpy()[batch.valid.numpy()], features
        told(len(features))


def sets_of(validation: Validation, level: float, option: str) -> ConformalSets:
    """Sets that hold the right class with this probability, fitted on the val pictures.

    Raises ConfigError, which names the option, for too few of them.
    """
    require_units(f"{option} {level:g}", validation.units, fewest_units(level))
    return fit_sets(
        validation.own_probabilities,
        validation.labels,
        validation.predicted,
        validation.prevalence,
        level,
        units=validation.groups,
    )


def farthest(features: TrainedFeatures, rate: float, option: str) -> float:
    """The distance beyond which at most this share of pictures like the val pictures lies.

    Raises ConfigError, which names the option, for too few of them.
    """
    require_units(option, features.units, fewest_units(1 - rate))
    return novelty_threshold(features.distances, rate, features.groups)


def require_units(option: str, units: np.ndarray, needed: int) -> None:
    """Raise ConfigError for too few val pictures, or groups of them, for a promise at all."""
    count = len(np.unique(units))
    if count < needed:
        what = "val pictures" if count == len(units) else "groups of val pictures"
        raise ConfigError(
            f"{option}: needs {needed:,} {what}, and the run has {count:,}; ask for less, or train "
            "with a larger --val-size"
        )


def _units(pictures: Pictures) -> np.ndarray:
    return unit_numbers(pictures.groups, len(pictures.indices))


def _prevalence(checkpoint: Checkpoint) -> np.ndarray:
    """Each class's share of the training pictures: float64 [C], all above 0.

    Also where the model was trained to think classes more even (logit adjustment and others): it
    has learnt little of the rare ones all the same, and with that prior in place of the shares,
    sets of the same size hold them less often.
    """
    run = run_of(checkpoint.folder)
    assert run is not None  # it has val pictures
    rows = read_splits(run)
    trained = {*keys_in(rows, "train", checkpoint.fold)}
    labels = Counter(row["label"] for row in rows if row["path"] in trained)
    # of a class whose pictures could all not be read the model knows as little as of one picture
    counts = np.array([max(labels[name], 1) for name in checkpoint.class_names], dtype=np.float64)
    return np.asarray(counts / counts.sum())
