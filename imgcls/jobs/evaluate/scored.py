"""What scoring pictures leaves: predictions, and all that the parts of a report share."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.config.evaluate import EvaluateConfig
from imgcls.data.loading.bad_images import BadImages
from imgcls.data.loading.loader import EvalLoader
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.engine.checkpoint.temperature import Temperature
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.runtime import amp_name
from imgcls.engine.scoring.inference import InferencePass
from imgcls.engine.scoring.scorer import Scorer
from imgcls.errors import DataError
from imgcls.jobs.evaluate.pictures import Pictures
from imgcls.jobs.evaluate.result_folders import ResultFolders
from imgcls.jobs.scorer import open_batches
from imgcls.metrics.calculator import MetricsCalculator, MetricSet
from imgcls.metrics.predictions import PictureOutcomes, Predictions
from imgcls.metrics.resampling import Resampler
from imgcls.metrics.speed import speed_metrics
from imgcls.storage.evaluations import LOGITS
from imgcls.storage.scores import ScoreFile

OnBatch = Callable[[int, int], None]


def ignore_batches(_done: int, _total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A checkpoint that is ready to score; temperature: that of the scorer, where one was kept."""

    checkpoint: Checkpoint
    scorer: Scorer
    temperature: Temperature | None = None


@dataclass(frozen=True, eq=False)
class Session:
    """What all passes of one evaluation share.

    path: the checkpoint, fold or run that is evaluated. costs: float64 [C, C], of deciding for the
    column's class where the row's is true. notes: what is to be known of the run.
    """

    path: Path
    config: EvaluateConfig
    compute: ComputeSettings
    results: ResultFolders
    on_batch: OnBatch = ignore_batches
    costs: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """Resamples of the intervals; 0 where none are wanted."""
        return self.config.ci_samples if self.config.ci == "bootstrap" else 0

    def batches(
        self, checkpoints: Sequence[Checkpoint], pictures: Pictures, workers: int | None = None
    ) -> EvalLoader:
        """The pictures as the checkpoints' models want them; workers: other than was said."""
        return open_batches(
            checkpoints,
            pictures.table,
            pictures.indices,
            batch_size=self.config.batch_size,
            workers=self.config.workers if workers is None else workers,
            device_type=self.compute.device.type,
            bad_images=BadImages(may_skip=self.config.on_bad_image != "skip"),
        )

    def counted(self, total: int) -> Callable[[int], None]:
        """Tells on_batch (batches done, batches in all) now, with none, and each time it is called.

        It is called with a batch's number of pictures.
        """
        self.on_batch(0, total)
        done = itertools.count(1)
        return lambda _pictures: self.on_batch(next(done), total)

    def run(self, opened: Opened, pictures: Pictures, file: ScoreFile) -> InferencePass:
        """One pass over the pictures, prepared as the model wants them; the scores in the file."""
        batches = self.batches([opened.checkpoint], pictures)
        return opened.scorer.run(batches, self.counted(len(batches)), file=file)


@dataclass(frozen=True, eq=False)
class Scored:
    """What scoring leaves, for N pictures; the scores lie in the folder's `logits.npy`.

    checkpoints: those that took part, each with its temperature. scorer: theirs; None where each
    fold scored a part. batch_times_s, batch_sizes: of the pass, without loading. folds: int64 [N],
    the checkpoint that scored each picture, where several scored a part each. members: what each
    member of an ensemble says alone; member_notes: what is to be known of them.
    """

    session: Session
    checkpoints: tuple[Checkpoint, ...]
    temperatures: tuple[Temperature | None, ...]
    pictures: Pictures
    predictions: Predictions
    folder: Path
    batch_times_s: tuple[float, ...]
    batch_sizes: tuple[int, ...]
    scorer: Scorer | None = None
    folds: np.ndarray | None = None
    members: tuple[PictureOutcomes, ...] = ()
    member_notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the scores."""
        return self.checkpoints[0].class_names

    @cached_property
    def metrics(self) -> MetricSet:
        """All metrics of the predictions."""
        calculator = MetricsCalculator(self.class_names, self.session.config.top_k)
        return calculator.compute(self.predictions)

    @property
    def speed(self) -> dict[str, Any]:
        """The `speed_metrics` of the pass, or of the folds' passes."""
        compute = self.session.compute
        speed = speed_metrics(self.batch_times_s, self.batch_sizes, str(compute.device))
        return {**speed, "precision": amp_name(compute.precision)}

    @cached_property
    def groups(self) -> tuple[str, ...] | None:
        """The group of each picture [N]; None where no picture has one."""
        return self.pictures.groups

    @cached_property
    def resampler(self) -> Resampler | None:
        """Resamples for paired intervals; None where none are wanted or can be drawn."""
        samples, seed = self.session.samples, self.session.config.seed
        if not samples:
            return None
        with contextlib.suppress(DataError):
            return Resampler(self.predictions.labels, samples, seed, self.groups, self.folds)
        return None


# a part of the report: its fields by name; its `notes` are added to those that are there
Extra = Callable[[Scored], Mapping[str, Any]]


def score(session: Session, opened: Opened, pictures: Pictures, folder: Path) -> Scored:
    """What one checkpoint makes of the pictures. folder: a new one, where the logits then lie."""
    with ScoreFile(folder / LOGITS, len(pictures.indices)) as file:
        result = session.run(opened, pictures, file)
    return Scored(
        session=session,
        checkpoints=(opened.checkpoint,),
        temperatures=(opened.temperature,),
        pictures=pictures,
        predictions=result.predictions,
        folder=folder,
        batch_times_s=result.batch_times_s,
        batch_sizes=result.batch_sizes,
        scorer=opened.scorer,
    )
