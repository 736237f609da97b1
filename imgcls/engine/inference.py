"""One pass of a model over pictures: Predictions, and how long each batch took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from imgcls.engine.batches import Batch, ComputeSettings, Normalizer
from imgcls.engine.runtime import autocast, synchronize
from imgcls.engine.score_file import ScoreFile
from imgcls.metrics.predictions import Predictions


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


@torch.inference_mode()
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
    """Score all batches in their order with the model in evaluation mode.

    on_batch is called behind each batch with its number of pictures; what it raises ends the pass.
    Logits come back as float32 whatever the precision: memory-mapped from `file` where one is
    given, else in memory.
    """
    model.eval()
    keys: list[str] = []
    logits: list[np.ndarray] = []
    kept = logits if file is None else file
    labels: list[np.ndarray] = []
    times_s: list[float] = []
    for batch in batches:
        start_s = time.perf_counter()
        images = normalizer.images(batch)
        with autocast(compute.device, compute.precision):
            output = model(images)
        scores = output.float().cpu()
        synchronize(compute.device)
        times_s.append(time.perf_counter() - start_s)
        valid = batch.valid.numpy()
        kept.append(scores.numpy()[valid])
        labels.append(batch.labels.numpy()[valid])
        keys.extend(key for key, real in zip(batch.keys, valid, strict=True) if real)
        on_batch(int(valid.sum()))
    return InferencePass(
        keys=tuple(keys),
        logits=np.concatenate(logits) if file is None else file.mapped(),
        labels=np.concatenate(labels),
        temperature=temperature,
        batch_times_s=tuple(times_s),
        batch_sizes=tuple(len(part) for part in labels),
    )
