"""The model that predicts: a checkpoint, or all folds of a run averaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.config.load import with_values
from imgcls.config.predict import PredictConfig
from imgcls.data.loading.stream import InputBatch, Read
from imgcls.data.pixels.decode import DecodeSettings
from imgcls.data.pixels.depth import UNKNOWN
from imgcls.engine.checkpoint.folder import Checkpoint, read_checkpoint
from imgcls.engine.checkpoint.temperature import read_temperature
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import amp_name
from imgcls.engine.scoring.inference import NOT_FINITE, Scores
from imgcls.engine.scoring.scorer import Scorer
from imgcls.errors import CheckpointError
from imgcls.jobs.checkpoint_config import decoding_of
from imgcls.jobs.evaluate.ensemble import require_same_pictures
from imgcls.jobs.evaluate.folds import member_checkpoints
from imgcls.jobs.plan.compute import compute_settings
from imgcls.jobs.predict.doubts import NO_DOUBTS, Doubts, OnProgress, Say, find_doubts
from imgcls.jobs.scorer import averaged, first_answers, open_scorer, with_features
from imgcls.metrics.predictions import Softmax
from imgcls.results.prediction import PredictedRow, row_columns
from imgcls.storage.ensembles import how_far_it_is, is_ensemble, newest_with_checkpoint
from imgcls.storage.evaluations import digits
from imgcls.storage.pointers import find_checkpoint


@dataclass(frozen=True, eq=False)
class Predictor:
    """What predicts, verified on disk and not yet loaded.

    path: the checkpoint, fold or run that was named. temperatures: one a checkpoint, None where
    none is used. notes: what is to be known of the run. doubts: what is said of each prediction.
    """

    config: PredictConfig
    path: Path
    checkpoints: Sequence[Checkpoint]
    temperatures: tuple[float | None, ...]
    compute: ComputeSettings
    notes: tuple[str, ...]
    doubts: Doubts = NO_DOUBTS

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the scores."""
        return self.checkpoints[0].class_names

    @property
    def model_name(self) -> str:
        """The architecture, of an ensemble each one once."""
        return " + ".join(dict.fromkeys(one.card["architecture"] for one in self.checkpoints))

    @property
    def shown(self) -> int:
        """How many classes a row shows."""
        return min(self.config.top_k, len(self.class_names))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its rows."""
        return row_columns(self.shown, sets=self.config.sets is not None)

    @cached_property
    def decoding(self) -> DecodeSettings:
        """How the pictures are decoded, as evaluation does it."""
        first = self.checkpoints[0]
        found = decoding_of(first, self.config.reading)
        if first.sidecar.config is not None:
            return found
        # nothing says what a model that imgcls did not train takes 16 bits for. Evaluation measures
        # its pictures; of a stream of them, only the bits that files or the user say are known
        return replace(found, declared=True, bit_depth=found.bit_depth or UNKNOWN)

    def made_by(self) -> dict[str, Any]:
        """What the numbers follow from, by names; see PredictionFiles."""
        config = self.config
        return {
            "weights_sha256": [one.weights_sha256 for one in self.checkpoints],
            "temperatures": list(self.temperatures),
            "decoding": repr(self.decoding),
            "device": self.compute.device.type,
            "top_k": config.top_k,
            "tta": config.tta,
            "amp": amp_name(self.compute.precision),
            "channels_last": self.compute.channels_last,
            "batch_size": config.batch_size,
            **self.doubts.made_by,
        }

    def load(self) -> list[Scorer]:
        """The model of each checkpoint on its device. Raises CheckpointError."""
        return [
            open_scorer(one, self.compute, 1.0 if heat is None else heat)
            for one, heat in zip(self.checkpoints, self.temperatures, strict=True)
        ]

    def joined(self, scorers: Sequence[Scorer]) -> Scorer:
        """What answers for all of them, over the views of `--tta`."""
        if len(scorers) == 1 and self.config.tta == "none":
            return scorers[0]
        return averaged(scorers, self.config.tta, self.checkpoints)

    def scored(self, scorer: Scorer, batches: Iterable[InputBatch]) -> Iterator[ScoredBatch]:
        """The rows of each batch, in the order of its inputs, and its features where wanted.

        Raises ModelError for a model without pooled features.
        """
        if not self.config.needs_features:
            for batch, scores in scorer.scores(batches):
                yield ScoredBatch(batch.read, self._rows(scorer, batch.read, scores), None)
            return
        what = "--unlike" if self.config.features is None else "--features"
        for batch, scores, given in with_features(scorer, batches, self.config.tta, what):
            features = np.full((len(batch.read), given.shape[1]), np.nan, np.float32)
            features[[one.error is None for one in batch.read]] = given
            rows = self._rows(scorer, batch.read, scores, given)
            features[[row.error is not None for row in rows]] = np.nan
            yield ScoredBatch(batch.read, rows, features)

    def _rows(
        self,
        scorer: Scorer,
        read: Sequence[Read],
        scores: Scores,
        given: np.ndarray | None = None,
    ) -> list[PredictedRow]:
        logits = first_answers(scores.logits[scores.finite])
        probabilities = Softmax(logits, scorer.temperature)[:]
        order = np.argsort(-logits, axis=1, kind="stable")
        best = order[:, : self.shown]
        values = np.take_along_axis(probabilities, best, axis=1)
        features = None if given is None else given[scores.finite]
        flags = self.doubts.flags(probabilities, features)
        scored = zip(best.tolist(), values, flags, strict=True)
        sets = self.doubts.ordered_sets(probabilities, order)
        finite = iter(scores.finite.tolist())
        names = self.class_names
        rows = []
        for (path, _), reason in read:
            error = reason if reason is not None or next(finite) else NOT_FINITE
            if error is not None:
                rows.append(PredictedRow(path, error=error))
                continue
            classes, found, flag = next(scored)
            members = None if sets is None else tuple(names[c] for c in next(sets))
            rows.append(
                PredictedRow(
                    path,
                    tuple(names[c] for c in classes),
                    tuple(map(float, digits(found))),
                    members=members,
                    flag=flag,
                )
            )
        return rows


@dataclass(frozen=True, eq=False)
class ScoredBatch:
    """N inputs with a row each; features: float32 [N, D], nan for what could not be read."""

    read: Sequence[Read]
    rows: Sequence[PredictedRow]
    features: np.ndarray | None


def unread(read: Sequence[Read]) -> Iterator[ScoredBatch]:
    """The rows of inputs behind the last one that could be read; none where there are none."""
    if read:
        yield ScoredBatch(read, [PredictedRow(one.path, error=error) for one, error in read], None)


def find_predictor(
    config: PredictConfig, say: Say, on_progress: OnProgress | None = None
) -> Predictor:
    """What the options name, with what it takes to say that it does not know.

    say, on_progress: see `find_doubts`. Raises as that does, CheckpointError, RunError and
    DeviceError.
    """
    path = config.checkpoint or newest_with_checkpoint(Path("outputs"))
    if is_ensemble(path):
        config = with_values(config, {"ensemble": True})
    compute = compute_settings(
        config.device, config.amp, channels_last=config.channels_last is not False
    )
    if config.ensemble:
        checkpoints = member_checkpoints(path, "--ensemble")
        require_same_pictures(checkpoints)
    else:
        folds = sorted(path.glob("fold_*"))
        if len(folds) > 1:
            raise CheckpointError(
                f"{path}: has {len(folds)} folds; --ensemble averages them, --checkpoint "
                f"{folds[0]} takes one"
            )
        checkpoints = [read_checkpoint(find_checkpoint(path))]
    kept = [None if config.calibrate == "none" else read_temperature(one) for one in checkpoints]
    unfinished = how_far_it_is(path)
    predictor = Predictor(
        config,
        path if config.ensemble else checkpoints[0].folder,
        checkpoints,
        tuple(None if found is None else found.temperature for found in kept),
        compute,
        (f"{unfinished}; its best so far predicts",) if unfinished else (),
    )
    if config.ensemble:
        return predictor
    [checkpoint], [temperature] = checkpoints, predictor.temperatures
    heat = 1.0 if temperature is None else temperature
    doubts = find_doubts(config, checkpoint, heat, compute, say=say, on_progress=on_progress)
    return replace(predictor, doubts=doubts)
