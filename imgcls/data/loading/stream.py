"""Batches of pictures without labels, of any number: nothing is kept of those that went by."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch

from imgcls.data.inputs import Input
from imgcls.data.loading.bad_images import BadImage, BadImages
from imgcls.data.loading.dataset import Failure, Sample, WatchedDataset, failure_of
from imgcls.data.loading.pipeline import Pipeline
from imgcls.data.pixels.decode import DecodeSettings, UnreadableImageError, decode_crop
from imgcls.data.pixels.transforms import PixelReader
from imgcls.data.places import PlaceReader


class Read(NamedTuple):
    """An input that was read, or why it could not be."""

    input: Input
    error: str | None


class InputBatch(NamedTuple):
    """A batch to score.

    images: uint8 [B, C, H, W]; keys: B paths; valid: bool [B]. read: the inputs since the batch
    before, in their order, of which B could be read.
    """

    images: torch.Tensor
    keys: tuple[str, ...]
    valid: torch.Tensor
    read: tuple[Read, ...]


class InputLoader:
    """Batches of inputs in their order, read in this process or in others, with the same result.

    Each is of `batch_size` inputs, those that cannot be read among them; `rest` are the ones behind
    the last that could be. Raises ReadError and WorkerError.
    """

    def __init__(
        self,
        inputs: Iterable[Input],
        reader: PixelReader,
        decoding: DecodeSettings,
        *,
        batch_size: int,
        workers: int,
        device_type: str,
    ) -> None:
        self._inputs = inputs
        self._batch_size = batch_size
        self._dataset = _InputDataset(reader, decoding)
        self._pipeline = Pipeline(self._dataset, workers, device_type, _InTheirRows())
        self.rest: tuple[Read, ...] = ()

    def __iter__(self) -> Iterator[InputBatch]:
        waiting: list[Read] = []
        for loaded in self._pipeline.run(self._batches()):
            asked = self._dataset.asked.popleft()
            batch = loaded.batch
            # what came in the place of labels
            good = set() if batch is None else set(batch.labels.tolist())
            reasons = iter(loaded.bad)
            waiting += [
                Read(one, None if number in good else next(reasons).reason) for number, one in asked
            ]
            if batch is not None:
                yield InputBatch(batch.images, batch.keys, batch.valid, tuple(waiting))
                waiting = []
        self.rest = tuple(waiting)

    def _batches(self) -> Iterator[list[_Item]]:
        numbered = enumerate(self._inputs)
        while batch := list(itertools.islice(numbered, self._batch_size)):
            self._dataset.asked.append(batch)
            yield batch


_Item = tuple[int, Input]


class _InTheirRows(BadImages):
    """Pictures that cannot be read are neither left out nor the end: each has a row."""

    def meet(self, images: Sequence[BadImage]) -> None:
        """Nothing; none is kept, there may be a million."""


class _InputDataset(WatchedDataset):
    """Inputs, each asked for by (number, itself). asked: the batches that are on their way."""

    def __init__(self, reader: PixelReader, decoding: DecodeSettings) -> None:
        super().__init__()
        self._reader = reader
        self._decoding = decoding
        self._places = PlaceReader()
        self.asked: deque[list[_Item]] = deque()

    def location(self, row: int) -> str:
        """The path of an input on its way."""
        return next((one.path for batch in self.asked for n, one in batch if n == row), "")

    def __getitem__(self, item: _Item) -> Sample | BadImage | Failure:
        number, (path, place) = item
        self.say_in_hand(number)
        try:
            picture = self._places.picture(place)
            pixels = self._reader.read(partial(decode_crop, picture, self._decoding))
            return Sample(pixels, number, path)
        except UnreadableImageError as error:
            return BadImage(path, "", path, str(error))
        except Exception as error:  # noqa: BLE001  raised where it is one line for a person
            return failure_of(path, error)
