"""One picture at a time: decoded, transformed by its own randomness, put into batches."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from imgcls.data.bad_images import BadImage, bad_image
from imgcls.data.decode import UnreadableImageError
from imgcls.data.handover import SharedRooms, stack_rows
from imgcls.data.sampling import sample_seed
from imgcls.data.source import SampleTable
from imgcls.data.transforms import Transform


class Batch(NamedTuple):
    """images: uint8 [B, C, H, W]; labels: int64 [B]; keys: B names; valid: bool [B]."""

    images: torch.Tensor
    labels: torch.Tensor
    keys: tuple[str, ...]
    valid: torch.Tensor


class Sample(NamedTuple):
    """One decoded, transformed picture."""

    image: torch.Tensor
    label: int
    key: str


class ImageDataset(Dataset[Any]):
    """Pictures of some rows; an item is asked for by (epoch, position among the rows).

    A position beyond the last is a repetition, with random changes of its own.
    """

    def __init__(
        self, table: SampleTable, indices: np.ndarray, transform: Transform, seed: int | None
    ) -> None:
        self._table = table
        self._indices = indices
        self._transform = transform
        self._seed = seed
        # int64 [workers, 2]: each process's id and the row it is at, seen by all processes
        self.in_hand = torch.empty((0, 2), dtype=torch.int64)

    def prepare(self) -> None:
        """What comes once before pictures are asked for, in the process that starts the others."""
        self._table.images.prepare()

    def __len__(self) -> int:
        return len(self._indices)

    def in_hand_of(self, process_ids: Sequence[int]) -> list[str]:
        """Where the pictures lie that these processes were at."""
        rows = [row for process, row in self.in_hand.tolist() if process in process_ids]
        return [self._table.images.location(row) for row in rows]

    def _say_in_hand(self, row: int) -> None:
        worker = get_worker_info()
        if worker is not None:
            self.in_hand[worker.id] = torch.tensor([os.getpid(), row])

    def __getitem__(self, item: tuple[int, int]) -> Sample | BadImage:
        epoch, position = item
        repeat, position = divmod(position, len(self._indices))
        row = int(self._indices[position])
        key = self._table.keys[row]
        self._say_in_hand(row)
        randomness = (
            contextlib.nullcontext()
            if self._seed is None
            else _own_randomness(sample_seed(self._seed, epoch, key, repeat))
        )
        with randomness:
            try:
                image = self._table.images.open_crop(row, self._transform.choose)
            except UnreadableImageError as error:
                return bad_image(self._table, row, str(error))
            pixels = self._transform.finish(image)
        return Sample(pixels, int(self._table.labels[row]), key)


@contextlib.contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Seed all three global states for one picture, and put them back."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  timm's transforms draw from the global state
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])


class Loaded(NamedTuple):
    """A batch of what could be read, None when nothing could, and what could not.

    in_room: the pictures lie in shared memory that waits to be used again.
    """

    batch: Batch | None
    bad: tuple[BadImage, ...]
    in_room: bool = False


class Collate:
    """Makes the batch of some samples.

    even: one left over is left out, since mixup wants pairs. reuse: a loader process puts pictures
    into memory that it shares with the reader and uses again.
    """

    def __init__(self, *, even: bool = False, reuse: bool = False) -> None:
        self._even = even
        self._rooms = SharedRooms() if reuse else None

    def __call__(self, samples: Sequence[Sample | BadImage]) -> Loaded:
        """The batch of what could be read, and what could not."""
        good = [sample for sample in samples if isinstance(sample, Sample)]
        bad = tuple(sample for sample in samples if isinstance(sample, BadImage))
        if self._even and len(good) % 2:
            good.pop()
        if not good:
            return Loaded(None, bad)
        # one copy of whole rows of pixels: the batch is channels last in memory
        rows, in_room = stack_rows([sample.image.movedim(0, -1) for sample in good], self._rooms)
        batch = Batch(
            images=rows.movedim(-1, 1),
            labels=torch.tensor([sample.label for sample in good], dtype=torch.int64),
            keys=tuple(sample.key for sample in good),
            valid=torch.ones(len(good), dtype=torch.bool),
        )
        return Loaded(batch, bad, in_room)
