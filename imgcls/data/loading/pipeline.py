"""Batches of a dataset's items, loaded in this process or in others, with the same result."""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import sys
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from imgcls.data.loading.bad_images import BadImage, BadImages
from imgcls.data.loading.dataset import Batch, Collate, Loaded, Stacked, WatchedDataset
from imgcls.data.loading.handover import Reader, Sender
from imgcls.data.loading.workers import (
    as_many_as_asked_for,
    follow_main_process,
    guard_needed,
    starting_workers,
)
from imgcls.errors import ImgclsError, WorkerError

# forked processes have the table already; elsewhere forking is not safe
_START_METHOD = "fork" if sys.platform == "linux" else "spawn"


class _BatchList(Sampler[list[Any]]):
    """The batches of the pass about to begin; refilled between passes."""

    def __init__(self) -> None:
        self.batches: Iterable[list[Any]] = ()

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(self.batches)


def _start_worker(_worker: int) -> None:
    torch.set_num_threads(1)
    follow_main_process()
    sys.excepthook = _quiet_about_lost_connections


def _quiet_about_lost_connections(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    # handing a batch over to a training process that ends just then; that one says why
    if not issubclass(kind, ConnectionError):
        sys.__excepthook__(kind, error, trace)


class Readable(NamedTuple):
    """A batch of what could be read, None when nothing could, and what could not.

    kept: int64 [B], which of the items asked for are in the batch.
    """

    batch: Batch | None
    bad: tuple[BadImage, ...]
    kept: np.ndarray


class Pipeline:
    """One DataLoader whose processes live as long as it does."""

    def __init__(
        self,
        dataset: WatchedDataset,
        workers: int,
        device_type: str,
        bad_images: BadImages | None,
        *,
        even: bool = False,
        is_whole: bool = True,
    ) -> None:
        self._dataset = dataset
        self._batches = _BatchList()
        self._bad_images = bad_images or BadImages(may_skip=False)
        dataset.show_in_hand(workers)
        self._reader = Reader()
        pinned = device_type == "cuda"
        # pinning makes a copy of its own
        sender = Sender(reuse=not pinned) if workers else None
        with as_many_as_asked_for():
            self._loader: DataLoader[Loaded] = DataLoader(
                dataset,
                batch_sampler=self._batches,
                num_workers=workers,
                collate_fn=Collate(even=even, is_whole=is_whole, sender=sender),
                pin_memory=pinned,
                multiprocessing_context=dataset.start_method(_START_METHOD) if workers else None,
                worker_init_fn=_start_worker,
                persistent_workers=workers > 0,
                # the loader draws a seed for its workers, which need none
                generator=torch.Generator(),
            )

    def run(self, batches: Iterable[list[Any]]) -> Iterator[Readable]:
        """The batches of these items of the dataset. Raises BadImageError and WorkerError."""
        self._batches.batches = batches
        self._dataset.prepare()
        for batch, bad, failure in self._loaded():
            if failure is not None:
                raise failure.error from RuntimeError(failure.trace)
            self._bad_images.meet(bad)
            kept = np.arange(0) if batch is None else batch.kept
            yield Readable(None if batch is None else self._own(batch), bad, kept)

    def _loaded(self) -> Iterator[Loaded]:
        try:
            if self._loader.num_workers:
                # what the queues are made of; where it fails torch adds a traceback of its own
                multiprocessing.Lock()
            with starting_workers(), as_many_as_asked_for():
                loaded = iter(self._loader)
        except OSError as error:
            raise WorkerError(
                f"loader processes cannot be started ({error.strerror}; is /dev/shm full?); "
                f"{_ADVICE}"
            ) from error
        while True:
            with self._naming_what_failed(loaded):
                batch = next(loaded, None)
            if batch is None:
                return
            yield batch

    def _own(self, stacked: Stacked) -> Batch:
        images = self._reader.own(stacked.images, in_buffer=stacked.in_buffer)
        return Batch(
            images.movedim(-1, 1),
            torch.from_numpy(stacked.labels),
            stacked.keys,
            torch.ones(len(stacked.keys), dtype=torch.bool),
        )

    @contextlib.contextmanager
    def _naming_what_failed(self, loaded: Iterator[Loaded]) -> Iterator[None]:
        """Turn what torch raises about a loader process into a WorkerError of one line."""
        try:
            yield
        except Exception as error:
            # what the pictures themselves bring about comes as a Failure
            told = isinstance(error, (torch.OutOfMemoryError, ImgclsError))
            if not self._loader.num_workers or told:
                raise
            dead = dead_workers(error)
            if not dead:
                reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
                raise WorkerError(f"{_CUT_OFF} ({reason}); {_ADVICE}") from error
            processes = getattr(loaded, "_workers", ())
            if needed := guard_needed(process.exitcode for process in processes):
                raise WorkerError(needed) from None
            files = self._dataset.in_hand_of(dead)
            at = f" at {', '.join(files)}" if files else ""
            raise WorkerError(
                f"a process that loads pictures died{at}, often for want of memory; {_ADVICE}"
            ) from error


def dead_workers(error: BaseException) -> list[int]:
    """The numbers of the processes whose death torch's DataLoader tells; none in other errors."""
    found = re.search(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)", str(error))
    return [int(number) for number in found[1].split(",")] if found else []


_CUT_OFF = "a process that loads pictures could not hand them over"
_ADVICE = "try --workers 0, for a run by `imgcls resume --workers 0`"
