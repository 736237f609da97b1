"""The dataset: decodes and transforms one picture at a time, and stacks them into batches."""

from __future__ import annotations

import contextlib
import os
import random
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from imgcls.data.loading.bad_images import BadImage, bad_image
from imgcls.data.loading.handover import Sender
from imgcls.data.loading.sampling import sample_seed
from imgcls.data.pixels.decode import UnreadableImageError, is_of_machine, why_unreadable
from imgcls.data.pixels.transforms import PixelReader
from imgcls.data.table import SampleTable
from imgcls.errors import ImgclsError, WorkerError


class Batch(NamedTuple):
    """images: uint8 [B, C, H, W]; labels: int64 [B]; keys: B names; valid: bool [B].

    rows: int64 [B], where these pictures stand in the whole batch, of `whole_size`, that other
    processes load the rest of, or whose others cannot be read; None where they are the whole.
    """

    images: torch.Tensor
    labels: torch.Tensor
    keys: tuple[str, ...]
    valid: torch.Tensor
    rows: np.ndarray | None = None
    whole_size: int | None = None

    @classmethod
    def without_pictures(cls, whole_size: int) -> Batch:
        """The part of a batch that has none."""
        nothing = torch.empty(0, dtype=torch.int64)
        return cls(nothing, nothing, (), nothing.bool(), np.arange(0), whole_size)


class Sample(NamedTuple):
    """One decoded, transformed picture."""

    image: torch.Tensor
    label: int
    key: str


class Failure(NamedTuple):
    """An error on its way to the process that can raise it, and where it came from."""

    error: ImgclsError
    trace: str


def failure_of(what: str, error: Exception) -> Failure:
    """What went wrong with `what` that is no picture's fault, as an error of one line."""
    if is_of_machine(error):
        error = why_unreadable(error, what)
    if not isinstance(error, ImgclsError):
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        error = WorkerError(f"{what}: cannot be loaded ({reason[:300]}); --debug shows more")
    return Failure(error, traceback.format_exc())


class WatchedDataset(Dataset[Any]):
    """Pictures that loader processes read; which ones they are at is seen by all processes."""

    # False where forked processes cannot read the pictures
    outlives_fork = True

    def __init__(self) -> None:
        # int64 [workers, 2]: each process's id and the row it is at
        self.in_hand = torch.empty((0, 2), dtype=torch.int64)

    def start_method(self, usual: str) -> str:
        """How processes that load these pictures are begun, `usual` where they may be forked."""
        return usual if self.outlives_fork else "spawn"

    def show_in_hand(self, workers: int) -> None:
        """Let so many loader processes note in shared memory which picture they are reading."""
        self.in_hand = torch.full((workers, 2), -1, dtype=torch.int64)
        # without any, nobody can say at which picture a process died
        with contextlib.suppress(RuntimeError):
            self.in_hand.share_memory_()  # type: ignore[no-untyped-call]

    def prepare(self) -> None:
        """Allocate what loader processes share, once, before they start."""

    def location(self, row: int) -> str:
        """Where the picture of a row lies."""
        raise NotImplementedError

    def in_hand_of(self, process_ids: Sequence[int]) -> list[str]:
        """Locations of the pictures that these processes were reading."""
        rows = [row for process, row in self.in_hand.tolist() if process in process_ids]
        return [self.location(row) for row in rows]

    def say_in_hand(self, row: int) -> None:
        """Tell which row this process is at."""
        worker = get_worker_info()
        if worker is not None:
            self.in_hand[worker.id] = torch.tensor([os.getpid(), row])


class ImageDataset(WatchedDataset):
    """Pictures of some rows; an item is asked for by (epoch, position among the rows).

    A position beyond the last is a repetition, with random changes of its own.
    """

    def __init__(
        self, table: SampleTable, indices: np.ndarray, reader: PixelReader, seed: int | None
    ) -> None:
        super().__init__()
        self.outlives_fork = table.images.outlives_fork
        self._table = table
        self._indices = indices
        self._reader = reader
        self._seed = seed

    def prepare(self) -> None:
        """Allocate what loader processes share, once, before they start."""
        self._table.images.prepare()

    def location(self, row: int) -> str:
        """Where the picture of a row lies."""
        return self._table.images.location(row)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, item: tuple[int, int]) -> Sample | BadImage | Failure:
        epoch, position = item
        repeat, position = divmod(position, len(self._indices))
        row = int(self._indices[position])
        try:
            return self._sample(epoch, row, repeat)
        except Exception as error:  # noqa: BLE001  raised where it is one line for a person
            return failure_of(self._table.images.location(row), error)

    def _sample(self, epoch: int, row: int, repeat: int) -> Sample | BadImage:
        key = self._table.keys[row]
        self.say_in_hand(row)
        randomness = (
            contextlib.nullcontext()
            if self._seed is None
            else _own_randomness(sample_seed(self._seed, epoch, key, repeat))
        )
        with randomness:
            try:
                pixels = self._reader.read(partial(self._table.images.open_crop, row))
            except UnreadableImageError as error:
                return bad_image(self._table, row, str(error))
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


class Stacked(NamedTuple):
    """Pictures of a batch as a loader gives them.

    images: uint8 [B, H, W, C], a tensor, or an array where it came through a pipe; labels: int64
    [B]. in_buffer: the pictures lie in shared memory that waits to be used again. kept: int64 [B],
    which of those asked for they are.
    """

    images: torch.Tensor | np.ndarray
    labels: np.ndarray
    keys: tuple[str, ...]
    kept: np.ndarray
    in_buffer: bool = False


class Loaded(NamedTuple):
    """A batch of what could be read, None when nothing could, and what could not."""

    batch: Stacked | None
    bad: tuple[BadImage, ...]
    failure: Failure | None = None


class Collate:
    """Makes the batch of some samples.

    even: mixup pairs the first with the last, and so on; the partner of one that cannot be read is
    left out too, so that the other pairs are the same in any part of the batch. is_whole: it is all
    of an update, so that where no pair is whole new ones are made of what is there. sender: how a
    loader process hands pictures over; None where there is none.
    """

    def __init__(
        self, *, even: bool = False, is_whole: bool = True, sender: Sender | None = None
    ) -> None:
        self._even = even
        self._is_whole = is_whole
        self._sender = sender

    def __call__(self, samples: Sequence[Sample | BadImage | Failure]) -> Loaded:
        """The batch of what could be read, and what could not."""
        for sample in samples:
            if isinstance(sample, Failure):
                return Loaded(None, (), sample)
        bad = tuple(sample for sample in samples if isinstance(sample, BadImage))
        kept = [place for place, sample in enumerate(samples) if isinstance(sample, Sample)]
        if self._even:
            paired = [place for place in kept if len(samples) - 1 - place in kept]
            made_anew = kept[: len(kept) // 2 * 2] if self._is_whole else []
            kept = paired or made_anew
        good = [sample for sample in map(samples.__getitem__, kept) if isinstance(sample, Sample)]
        if not good:
            return Loaded(None, bad)
        # one copy of whole rows of pixels: the batch is channels last in memory
        rows = [sample.image.movedim(0, -1) for sample in good]
        try:
            images, in_buffer = (
                (torch.stack(rows), False) if self._sender is None else self._sender.stack(rows)
            )
        except Exception as error:  # noqa: BLE001  raised where it is one line for a person
            return Loaded(None, (), failure_of(f"the batch with {good[0].key}", error))
        labels = np.array([sample.label for sample in good], dtype=np.int64)
        keys = tuple(sample.key for sample in good)
        return Loaded(Stacked(images, labels, keys, np.array(kept), in_buffer), bad)
