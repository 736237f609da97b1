"""Reads all pictures of a table on all cores; keeps what is known of each, not the pictures."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from imgcls.data.audit.picture import PictureFacts
from imgcls.data.loading.workers import (
    available_cores,
    follow_main_process,
    guard_needed,
    starting_workers,
)
from imgcls.data.pixels.decode import DecodeSettings, UnreadableImageError, why_unreadable
from imgcls.data.table import ImageStore
from imgcls.errors import WorkerError

Examine = Callable[[bytes, DecodeSettings], PictureFacts]

# below this a pool of processes takes longer to start than it saves
_FEW = 256
_ROWS_A_TASK = 64
_TASKS_AHEAD = 4


def scan(
    images: ImageStore,
    count: int,
    examine: Examine,
    *,
    workers: int | str,
    on_picture: Callable[[int, int], None] = lambda _done, _total: None,
) -> Iterator[PictureFacts]:
    """The facts of rows 0 to count - 1, in that order.

    workers: processes, `auto` for one a core; 0 reads in this one. on_picture is told (pictures
    done, pictures in all). Raises WorkerError with the files in hand when a process dies.
    """
    processes = available_cores() if workers == "auto" else int(workers)
    batches = (
        _here(images, count, examine)
        if processes == 0 or count < _FEW
        else _in_processes(images, count, examine, processes)
    )
    done = 0
    on_picture(done, count)
    for batch in batches:
        yield from batch
        done += len(batch)
        on_picture(done, count)


def _here(images: ImageStore, count: int, examine: Examine) -> Iterator[list[PictureFacts]]:
    return ([_facts(images, row, examine)] for row in range(count))


def _facts(images: ImageStore, row: int, examine: Examine) -> PictureFacts:
    try:
        content = images.content(row)
    except UnreadableImageError as error:
        return PictureFacts(b"", reason=str(error))
    try:
        return examine(content, images.decoding)
    except (OSError, MemoryError) as error:
        raise why_unreadable(error, images.location(row)) from error


def _in_processes(
    images: ImageStore, count: int, examine: Examine, processes: int
) -> Iterator[list[PictureFacts]]:
    # forked children have the table already; where forking is not safe it is sent to each once
    may_fork = sys.platform == "linux" and images.outlives_fork
    context: Any = multiprocessing.get_context("fork" if may_fork else "spawn")
    in_hand = context.Array("q", [-1] * processes)
    seats, left = context.Value("i", 0), context.Value("b", 0)
    pool = ProcessPoolExecutor(
        processes,
        context,
        initializer=_take_seat,
        initargs=(images, examine, in_hand, seats, left),
    )
    starts = iter(range(0, count, _ROWS_A_TASK))
    pending: list[Future[list[PictureFacts]]] = []
    try:
        while True:
            # no more tasks than are soon needed, or results would pile up
            while len(pending) < processes * _TASKS_AHEAD:
                start = next(starts, None)
                if start is None:
                    break
                rows = range(start, min(start + _ROWS_A_TASK, count))
                with starting_workers():
                    pending.append(pool.submit(_examine_rows, rows))
            if not pending:
                return
            yield pending.pop(0).result()
    except BrokenProcessPool as error:
        # the pool forgets them when it has waited; before, how they ended may not be known
        ended = list((pool._processes or {}).values())  # noqa: SLF001
        pool.shutdown()
        if needed := guard_needed([process.exitcode for process in ended]):
            raise WorkerError(needed) from None
        files = ", ".join(images.location(row) for row in in_hand if row >= 0)
        raise WorkerError(
            f"a process that reads pictures died at one of these: {files}; it may be a damaged "
            "file that crashes its decoder, or want of memory (see --workers)"
        ) from error
    finally:
        # whoever stops before the end waits for one picture of each process, not for a task
        left.value = 1
        pool.shutdown(cancel_futures=True)


_seat: dict[str, Any] = {}


def _take_seat(images: ImageStore, examine: Examine, in_hand: Any, seats: Any, left: Any) -> None:
    follow_main_process()
    # decoders written in C speak to stderr, without the file's name
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with seats.get_lock():
        number = seats.value
        seats.value += 1
    _seat.update(images=images, examine=examine, in_hand=in_hand, number=number, left=left)


def _examine_rows(rows: Sequence[int]) -> list[PictureFacts]:
    facts = []
    for row in rows:
        if _seat["left"].value:
            break
        _seat["in_hand"][_seat["number"]] = row
        facts.append(_facts(_seat["images"], row, _seat["examine"]))
    _seat["in_hand"][_seat["number"]] = -1
    return facts
