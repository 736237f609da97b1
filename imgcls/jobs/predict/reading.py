"""The batches of a prediction: the first ones read at once, the others by loader processes."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator

from imgcls.data.inputs import Input
from imgcls.data.loading.stream import InputBatch, InputLoader, Read
from imgcls.data.loading.workers import balanced_workers
from imgcls.jobs.predict.predictor import Predictor
from imgcls.jobs.scorer import open_inputs


class Reading:
    """Batches of a predictor's inputs, in their order.

    first: up to `count` of them, read when this is made. inputs: those that no batch was made of
    yet. rest: the inputs behind the last batch, none of which can be read; known when all batches
    were taken. Raises ReadError and WorkerError.
    """

    def __init__(self, predictor: Predictor, inputs: Iterator[Input], count: int) -> None:
        self._predictor = predictor
        self.inputs = inputs
        loader = self._loader(inputs, 0)
        start_s = time.perf_counter()
        self.first = deque(itertools.islice(loader, count))
        pictures = sum(len(batch.keys) for batch in self.first)
        self._load_s = (time.perf_counter() - start_s) / max(pictures, 1)
        self.rest: tuple[Read, ...] = loader.rest

    def others(self, model_s: float) -> Iterator[InputBatch]:
        """The batches behind the first ones; model_s: what the model takes for a picture."""
        following = next(self.inputs, None)
        if following is None:
            return
        predictor = self._predictor
        workers: int | str = predictor.config.workers
        if workers == "auto" and predictor.compute.device.type == "cpu":
            workers = balanced_workers(self._load_s, model_s)
        loader = self._loader(itertools.chain([following], self.inputs), workers)
        yield from loader
        self.rest = loader.rest

    def _loader(self, inputs: Iterator[Input], workers: int | str) -> InputLoader:
        predictor = self._predictor
        return open_inputs(
            predictor.checkpoints,
            inputs,
            predictor.decoding,
            batch_size=predictor.config.batch_size,
            workers=workers,
            device_type=predictor.compute.device.type,
        )
