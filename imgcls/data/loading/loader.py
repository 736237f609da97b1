"""From rows to batches, each the same whatever process it is loaded in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from imgcls.data.loading.bad_images import BadImage, BadImages, nothing_left
from imgcls.data.loading.dataset import Batch, ImageDataset
from imgcls.data.loading.pipeline import Pipeline, Readable
from imgcls.data.loading.sampling import EpochSampler, Share
from imgcls.data.loading.workers import available_cores
from imgcls.data.pixels.transforms import PixelReader, Transform
from imgcls.data.table import SampleTable

_MOST_AUTO_WORKERS = 8
WHOLE = Share()


def resolve_workers(
    workers: int | str, *, in_memory: bool, device_type: str, processes: int = 1
) -> int:
    """How many loader processes `auto` stands for on this machine.

    None for pictures in memory. On a GPU one a core, eight at most. On a CPU the model needs the
    cores: one process for every four, at least one. processes: those of this command on this
    machine, each of which has so many, and its share of the cores.
    """
    if isinstance(workers, int):
        return workers
    if in_memory:
        return 0
    cores = max(1, available_cores() // processes)
    if device_type == "cpu":
        return max(1, cores // 4)
    return min(_MOST_AUTO_WORKERS, cores)


class TrainLoader:
    """Training batches: lists of micro-batches, one list an update.

    balanced: rare classes come more often, by square_root_draw. share: what of each batch is loaded
    here; the order, and what changes at random, are the same for any.
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
        bad_images: BadImages | None = None,
        share: Share = WHOLE,
    ) -> None:
        self._share = share
        self._even = even_batches
        self._sampler = EpochSampler(
            len(indices),
            batch_size=batch_size,
            grad_accum=grad_accum,
            seed=seed,
            even_batches=even_batches,
            balance_by=table.labels[indices] if balanced else None,
        )
        self._pipeline = Pipeline(
            ImageDataset(table, indices, transform, seed),
            min(workers, len(indices)),  # more would have nothing to load
            device_type,
            bad_images,
            even=even_batches,
            is_whole=share.of == grad_accum == 1,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one epoch."""
        return self._sampler.steps_per_epoch

    def steps(self, epoch: int, start_step: int = 0) -> Iterator[list[Batch]]:
        """The epoch's updates from `start_step` on. Raises BadImageError and WorkerError.

        Pictures that are left out make their batch smaller; no other takes their place. Where the
        batches are shared, a part may be without any.
        """
        wanted, steps = itertools.tee(self._sampler.micro_batches(epoch, start_step))
        batches = self._pipeline.run(_items(wanted, epoch, self._share, even=self._even))
        for step in steps:
            loaded = [next(batches) for _ in step]
            parts = [self._part(one, len(whole)) for one, whole in zip(loaded, step, strict=True)]
            if self._share.of == 1:
                parts = [part for part in parts if len(part.labels)]
                if not parts:
                    raise nothing_left([bad for one in loaded for bad in one.bad], "its batch")
            yield parts

    def _part(self, loaded: Readable, whole_size: int) -> Batch:
        if loaded.batch is None:
            return Batch.without_pictures(whole_size)
        if len(loaded.kept) == whole_size:
            return loaded.batch
        rows = self._share.rows(whole_size, paired=self._even)[loaded.kept]
        return loaded.batch._replace(rows=rows, whole_size=whole_size)


class EvalLoader:
    """Batches of pictures in the table's order.

    seed: for a transform with random changes, which are those of the first epoch under that seed.
    is_rest: others of the same pass were read before, so that these may be few, and all be bad.
    share: which of the batches are loaded here.
    """

    def __init__(
        self,
        table: SampleTable,
        indices: np.ndarray,
        transform: PixelReader,
        *,
        batch_size: int,
        workers: int,
        device_type: str,
        bad_images: BadImages | None = None,
        seed: int | None = None,
        is_rest: bool = False,
        share: Share = WHOLE,
    ) -> None:
        self._is_rest = is_rest
        self.bad_images = bad_images or BadImages(may_skip=False)
        self._pictures = len(indices)
        self._batch_size = batch_size
        first, behind = share.bounds(-(-len(indices) // batch_size))
        self._numbers = range(first, behind)
        self._pipeline = Pipeline(
            ImageDataset(table, indices, transform, seed),
            min(workers, len(indices)),
            device_type,
            self.bad_images,
        )
        self.part_of = partial(
            _part_of_batches,
            partial(
                EvalLoader,
                table,
                indices,
                transform,
                batch_size=batch_size,
                workers=workers,
                device_type=device_type,
                bad_images=self.bad_images,
                seed=seed,
                is_rest=True,
            ),
        )

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Batch]:
        bad: list[BadImage] = []
        some = self._is_rest
        batches = _items_in_order(self._numbers, self._batch_size, self._pictures)
        for loaded in self._pipeline.run(batches):
            bad.extend(loaded.bad)
            if loaded.batch is not None:
                some = True
                yield loaded.batch
        if bad and not some:
            raise nothing_left(bad, "the split")


# functions, since what the pipeline holds must not hold the loader: in a circle, loader processes
# that are forked later would come upon it and find themselves in charge of the others


def _items(
    updates: Iterator[list[np.ndarray]], epoch: int, share: Share, *, even: bool
) -> Iterator[list[tuple[int, int]]]:
    """What to load of each micro-batch: (epoch, position) of this process's pictures."""
    for update in updates:
        for positions in update:
            own = positions[share.rows(len(positions), paired=even)]
            yield [(epoch, position) for position in own.tolist()]


def _items_in_order(
    numbers: range, batch_size: int, pictures: int
) -> Iterator[list[tuple[int, int]]]:
    """What to load of the batches of these numbers, of pictures in their order."""
    for number in numbers:
        first = number * batch_size
        yield [(0, position) for position in range(first, min(first + batch_size, pictures))]


def _part_of_batches(make: Callable[..., EvalLoader], number: int, of: int) -> EvalLoader:
    return make(share=Share(number, of))
