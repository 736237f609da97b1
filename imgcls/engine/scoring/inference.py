"""One pass of a model over pictures: Predictions, and how long each batch took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import numpy as np
import torch
from torch import nn

from imgcls.engine.device.batches import Batch, ComputeSettings, Images, Normalizer
from imgcls.engine.device.runtime import autocast, synchronize, to_host
from imgcls.errors import NonFiniteError
from imgcls.metrics.predictions import Predictions
from imgcls.storage.scores import ScoreFile

BatchT = TypeVar("BatchT", bound=Images)
NOT_FINITE = "the model's output for it is inf or nan"


@dataclass(frozen=True, eq=False)
class InferencePass:
    """What one pass gives: keys [N], logits float32 [N, ..., C], labels int64 [N], and times.

    The seconds of each batch cover the model and the copy to and from the device, not the loading.
    """

    keys: tuple[str, ...]
    logits: np.ndarray
    labels: np.ndarray
    temperature: float
    batch_times_s: tuple[float, ...]
    batch_sizes: tuple[int, ...]

    @cached_property
    def predictions(self) -> Predictions:
        """The scores of a model with one answer a picture. Raises DataError if not finite."""
        return Predictions(self.keys, self.logits, self.labels, self.temperature)


@dataclass(frozen=True, eq=False)
class Scores:
    """The answers to one batch: keys [n], logits float32 [n, ..., C], without padding.

    time_s: of the model and the copy to and from the device, not of the loading.
    """

    keys: tuple[str, ...]
    logits: np.ndarray
    time_s: float

    @cached_property
    def finite(self) -> np.ndarray:
        """Whose logits are all finite numbers: bool [n]."""
        found: np.ndarray = np.isfinite(self.logits.reshape(len(self.logits), -1)).all(axis=1)
        return found

    def require_finite(self) -> None:
        """Raise NonFiniteError that names the first picture whose logits are not finite."""
        if not self.finite.all():
            raise NonFiniteError(f"{self.keys[int(self.finite.argmin())]}: {NOT_FINITE}")


def scores_of(
    model: nn.Module, batches: Iterable[BatchT], normalizer: Normalizer, compute: ComputeSettings
) -> Iterator[tuple[BatchT, Scores]]:
    """Each batch with its scores, in the batches' order, by the model in evaluation mode.

    Logits are float32 whatever the precision, and not all of them need be finite.
    """
    model.eval()
    for batch, wait in _ahead(_asked(model, batches, normalizer, compute), _in_flight(compute)):
        logits, time_s = wait()
        valid = batch.valid.numpy()
        keys = tuple(key for key, real in zip(batch.keys, valid, strict=True) if real)
        yield batch, Scores(keys, logits.numpy()[valid], time_s)


def predict(
    model: nn.Module,
    batches: Iterable[Batch],
    normalizer: Normalizer,
    compute: ComputeSettings,
    on_batch: Callable[[int], None] = lambda _samples: None,
    *,
    file: ScoreFile | None = None,
    temperature: float = 1.0,
) -> InferencePass:
    """Score all batches as `scores_of` does, and keep what it gives.

    on_batch is called behind each batch with its number of pictures; what it raises ends the pass.
    The logits are memory-mapped from `file` where one is given, else in memory. Raises
    NonFiniteError that names the first picture whose logits are not finite.
    """
    keys: list[str] = []
    logits: list[np.ndarray] = []
    kept = logits if file is None else file
    labels: list[np.ndarray] = []
    times_s: list[float] = []
    for batch, scores in scores_of(model, batches, normalizer, compute):
        scores.require_finite()
        times_s.append(scores.time_s)
        labels.append(batch.labels.numpy()[batch.valid.numpy()])
        kept.append(scores.logits)
        keys.extend(scores.keys)
        on_batch(len(scores.keys))
    return InferencePass(
        keys=tuple(keys),
        logits=np.concatenate(logits) if file is None else file.mapped(),
        labels=np.concatenate(labels),
        temperature=temperature,
        batch_times_s=tuple(times_s),
        batch_sizes=tuple(len(part) for part in labels),
    )


def joined_passes(
    parts: Sequence[InferencePass], *, logits: np.ndarray | None = None
) -> InferencePass:
    """The passes over parts of the same pictures as one, in the parts' order.

    logits: of all of them, where they are together already.
    """
    if logits is None:
        logits = np.concatenate([part.logits for part in parts])
    return InferencePass(
        keys=tuple(key for part in parts for key in part.keys),
        logits=logits,
        labels=np.concatenate([part.labels for part in parts]),
        temperature=parts[0].temperature,
        batch_times_s=tuple(each for part in parts for each in part.batch_times_s),
        batch_sizes=tuple(each for part in parts for each in part.batch_sizes),
    )


# the scores of a batch on the CPU, and the seconds they took, when they are there
_Wait = Callable[[], tuple[torch.Tensor, float]]


def _in_flight(compute: ComputeSettings) -> int:
    """Batches that the device works on at a time: a GPU has the next while one is copied back."""
    return 2 if compute.device.type == "cuda" else 1


def _ahead(asked: Iterator[tuple[BatchT, _Wait]], count: int) -> Iterator[tuple[BatchT, _Wait]]:
    """The batches in their order, each given out when `count` are asked for, or all."""
    waiting: deque[tuple[BatchT, _Wait]] = deque()
    for one in asked:
        waiting.append(one)
        if len(waiting) == count:
            yield waiting.popleft()
    yield from waiting


def _asked(
    model: nn.Module, batches: Iterable[BatchT], normalizer: Normalizer, compute: ComputeSettings
) -> Iterator[tuple[BatchT, _Wait]]:
    """Each batch as soon as its device was asked for the scores."""
    for batch in batches:
        if compute.device.type == "cuda":
            begun, done = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            stream = torch.cuda.current_stream(compute.device)
            begun.record(stream)
            scores = to_host(_scores(model, batch, normalizer, compute))
            done.record(stream)
            yield batch, partial(_timed_by_events, scores, begun, done)
        else:
            start_s = time.perf_counter()
            here = _scores(model, batch, normalizer, compute).cpu()
            synchronize(compute.device)
            yield batch, partial(_timed, here, time.perf_counter() - start_s)


@torch.inference_mode()
def _scores(
    model: nn.Module, batch: Images, normalizer: Normalizer, compute: ComputeSettings
) -> torch.Tensor:
    with autocast(compute.device, compute.precision):
        output: torch.Tensor = model(normalizer.images(batch))
    return output.float()


def _timed_by_events(
    scores: Callable[[], torch.Tensor], begun: torch.cuda.Event, done: torch.cuda.Event
) -> tuple[torch.Tensor, float]:
    found = scores()
    done.synchronize()
    return found, begun.elapsed_time(done) / 1e3


def _timed(scores: torch.Tensor, seconds: float) -> tuple[torch.Tensor, float]:
    return scores, seconds
