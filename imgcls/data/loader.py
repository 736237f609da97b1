"""From rows to batches, in this process or in others, with the same result."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from imgcls.data.decode import UnreadableImageError
from imgcls.data.sampling import EpochSampler, sample_seed
from imgcls.data.source import SampleTable
from imgcls.data.transforms import Transform
from imgcls.errors import BadImageError, WorkerError

_MOST_AUTO_WORKERS = 8


class Batch(NamedTuple):
    """images: uint8 [B, C, H, W]; labels: int64 [B]; keys: B names; valid: bool [B]."""

    images: torch.Tensor
    labels: torch.Tensor
    keys: tuple[str, ...]
    valid: torch.Tensor


@dataclass(frozen=True)
class BadImage:
    """A picture that could not be read, on its way to the process that can say so."""

    location: str
    reason: str


class Sample(NamedTuple):
    """One decoded, transformed picture."""

    image: torch.Tensor
    label: int
    key: str


def resolve_workers(workers: int | str, *, in_memory: bool, device_type: str) -> int:
    """How many loader processes `auto` stands for on this machine.

    None for pictures in memory. On a GPU one a core, eight at most. On a CPU the model needs the
    cores: one process for every four, at least one.
    """
    if isinstance(workers, int):
        return workers
    if in_memory:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = cores or 1
    if device_type == "cpu":
        return max(1, cores // 4)
    return min(_MOST_AUTO_WORKERS, cores)


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

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, item: tuple[int, int]) -> Sample | BadImage:
        epoch, position = item
        repeat, position = divmod(position, len(self._indices))
        row = int(self._indices[position])
        key = self._table.keys[row]
        try:
            image = self._table.images.open(row)
        except UnreadableImageError as error:
            return BadImage(self._table.images.location(row), str(error))
        if self._seed is None:
            pixels = self._transform(image)
        else:
            with _own_randomness(sample_seed(self._seed, epoch, key, repeat)):
                pixels = self._transform(image)
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


def _collate(samples: Sequence[Sample | BadImage]) -> Batch | BadImage:
    good: list[Sample] = []
    for sample in samples:
        if isinstance(sample, BadImage):
            return sample
        good.append(sample)
    return Batch(
        images=torch.stack([sample.image for sample in good]),
        labels=torch.tensor([sample.label for sample in good], dtype=torch.int64),
        keys=tuple(sample.key for sample in good),
        valid=torch.ones(len(good), dtype=torch.bool),
    )


class _BatchList(Sampler[list[tuple[int, int]]]):
    """The batches of the pass about to begin; refilled between passes."""

    def __init__(self) -> None:
        self.batches: list[list[tuple[int, int]]] = []

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _start_worker(_worker: int) -> None:
    torch.set_num_threads(1)
    # the training process decides when to stop; a Ctrl-C reaches the whole process group
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Pipeline:
    """One DataLoader whose processes live as long as it does."""

    def __init__(self, dataset: ImageDataset, workers: int, device_type: str) -> None:
        self._batches = _BatchList()
        self._loader: DataLoader[Batch | BadImage] = DataLoader(
            dataset,
            batch_sampler=self._batches,
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=device_type == "cuda",
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            # the loader draws a seed for its workers, which need none
            generator=torch.Generator(),
        )

    def run(self, batches: list[list[tuple[int, int]]]) -> Iterator[Batch]:
        self._batches.batches = batches
        try:
            for batch in self._loader:
                if isinstance(batch, BadImage):
                    raise BadImageError(
                        f"{batch.location}: cannot be read ({batch.reason}); repair the picture or "
                        "take it away"
                    )
                yield batch
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise WorkerError(
                "a process that loads pictures died, often for want of memory; go on with "
                "`imgcls resume --workers 0`"
            ) from error


class TrainLoader:
    """Training batches: lists of micro-batches, one list an update.

    balanced: rare classes come more often, by square_root_draw.
    """

    def __init__(
        self,
        table: SampleTable,
        indices: np.ndarray,
        transform: Transform,
        *,
        batch_size: int,
        grad_accum: int,
        seed: int,
        workers: int,
        device_type: str,
        even_batches: bool,
        balanced: bool = False,
    ) -> None:
        self._sampler = EpochSampler(
            len(indices),
            batch_size=batch_size,
            grad_accum=grad_accum,
            seed=seed,
            even_batches=even_batches,
            balance_by=table.labels[indices] if balanced else None,
        )
        self._pipeline = _Pipeline(
            ImageDataset(table, indices, transform, seed), workers, device_type
        )

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one epoch."""
        return self._sampler.steps_per_epoch

    def steps(self, epoch: int, start_step: int = 0) -> Iterator[list[Batch]]:
        """The epoch's updates from `start_step` on. Raises BadImageError and WorkerError."""
        steps = self._sampler.micro_batches(epoch, start_step)
        batches = self._pipeline.run(
            [[(epoch, position) for position in batch] for step in steps for batch in step]
        )
        for step in steps:
            yield [next(batches) for _ in step]


class EvalLoader:
    """Batches of pictures in the table's order, without random changes."""

    def __init__(
        self,
        table: SampleTable,
        indices: np.ndarray,
        transform: Transform,
        *,
        batch_size: int,
        workers: int,
        device_type: str,
    ) -> None:
        positions = [(0, position) for position in range(len(indices))]
        self._batches = [
            positions[start : start + batch_size] for start in range(0, len(positions), batch_size)
        ]
        self._pipeline = _Pipeline(
            ImageDataset(table, indices, transform, None), workers, device_type
        )

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return self._pipeline.run(self._batches)
