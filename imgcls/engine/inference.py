"""One pass of a model over pictures: Predictions, and how long each batch took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from imgcls.engine.batches import Batch, ComputeSettings, Normalizer
from imgcls.engine.runtime import autocast, synchronize
from imgcls.engine.score_file import ScoreFile
from imgcls.metrics.predictions import Predictions


@dataclass(frozen=True)
class InferencePass:
    """What one pass gives: predictions, and per batch its seconds and its number of pictures.

    The seconds cover the model and the copy to and from the device, not the loading.
    """

    predictions: Predictions
    batch_times_s: tuple[float, ...]
    batch_sizes: tuple[int, ...]


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
    predictions = Predictions(
        keys=tuple(keys),
        logits=np.concatenate(logits) if file is None else file.mapped(),
        labels=np.concatenate(labels),
        temperature=temperature,
    )
    return InferencePass(predictions, tuple(times_s), tuple(len(part) for part in labels))
