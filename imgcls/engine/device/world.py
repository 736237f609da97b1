"""The processes that compute one command together: ranks, collectives, and what ends them all.

Process 0 runs the command as it would alone. The others serve it: they wait for a task, do their
part of it beside process 0, and wait for the next, until process 0 has ended. So whatever is
planned, printed, written or fitted is so once, and only what takes part in a task knows of others.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from imgcls.engine.device.messages import packed, packed_error, unpacked, unpacked_error
from imgcls.errors import ConfigError, RunFailedError, reason_of

T = TypeVar("T")

# process 0 may check, measure and fit for hours while the others wait; one that has died is known
# at once, by its closed connection
_TIMEOUT = timedelta(days=2)


class LostProcessError(RunFailedError):
    """Another of the processes that train together has ended; what was saved is intact."""


@dataclass(frozen=True)
class Agreement:
    """What all processes know behind a common point.

    sums: of the values that each one gave. stop: the first process's wish to stop, where there is
    one. news: what each process had to tell, by rank; () where none had.
    """

    sums: tuple[float, ...]
    stop: Any = None
    news: tuple[Any, ...] = ()


@dataclass
class World:
    """The processes of one command; a single one unless they were started together.

    rank: this one's number; size: how many; local_rank, local_size: the same on this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    _settled: bool = field(default=True, repr=False)
    _lost: bool = field(default=False, repr=False)

    @property
    def is_main(self) -> bool:
        """True for the process that runs the command, prints and writes."""
        return self.rank == 0

    @property
    def is_usable(self) -> bool:
        """False where a process has left in the middle of what they did together."""
        return not self._lost

    def agree(
        self,
        *values: float,
        error: BaseException | None = None,
        stop: Any = None,
        news: Any = None,
    ) -> Agreement:
        """Meet all other processes: the sums of what each one gives, and what any has to tell.

        Raises the error that the first process with one has met, in all of them.
        """
        if self.size == 1:
            if error is not None:
                raise error
            return Agreement(values, stop, () if news is None else (news,))
        self._settled = False
        told = error is not None or stop is not None or news is not None
        sums = torch.tensor([*values, float(told)], dtype=torch.float64)
        with self._connected():
            dist.all_reduce(sums)
        found = tuple(sums.tolist())
        if not found[-1]:
            return Agreement(found[:-1])
        everyone: list[Any] = [None] * self.size
        with self._connected():
            dist.all_gather_object(everyone, (packed_error(error), stop, news))
        errors = [(rank, one) for rank, (one, _, _) in enumerate(everyone) if one is not None]
        stops = [one for _, one, _ in everyone if one is not None]
        if errors:
            self._settled = True
            rank, first = errors[0]
            if rank == self.rank and error is not None:
                raise error
            raise unpacked_error(first, rank)
        self._settled = bool(stops)
        return Agreement(found[:-1], next(iter(stops), None), tuple(one for *_, one in everyone))

    def gather(self, value: T) -> list[T]:
        """What each process gives, by rank, in the main one; [] in the others."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with self._connected():
            dist.gather_object(value, found if self.is_main else None)
        return found if self.is_main else []

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` gives in the main process, in all; it is not called in the others.

        Raises what it raises there, in all of them.
        """
        if self.size == 1:
            return make()
        error, made = None, None
        if self.is_main:
            try:
                made = make()
            except Exception as failed:  # noqa: BLE001  raised in all processes
                error = failed
        self.agree(error=error)
        found: T = self._broadcast(made)
        return found

    def sum_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum of all processes' tensors, in place."""
        if self.size > 1:
            with self._connected():
                dist.all_reduce(tensor)
        return tensor

    @contextlib.contextmanager
    def inseparable(self) -> Iterator[None]:
        """A block that no process can leave by an error without leaving the others waiting."""
        try:
            with self._connected():
                yield
        except BaseException:
            self._lost = self._lost or (self.size > 1 and not self._settled)
            raise

    def tell(self, error: BaseException) -> None:
        """Make an error that this process has met known to all, where it is not: all raise it."""
        if self.size > 1 and not self._settled:
            with contextlib.suppress(ImgclsError):
                self.agree(error=error)

    def settle(self) -> None:
        """Say that every process raises an error at this very place: it leaves none waiting."""
        self._settled = True

    @contextlib.contextmanager
    def everywhere(self, task: Callable[..., None], *given: Any) -> Iterator[None]:
        """A block of the main process beside which each other one runs `task(*given)`.

        Both meet at the same common points; behind the last one the block's error, or the task's,
        is raised here.
        """
        if self.size == 1:
            yield
            return
        if self._lost:
            raise LostProcessError(_LOST)
        self._broadcast(packed((task, given)))
        with self._met():
            yield

    @contextlib.contextmanager
    def kept(self, value: Any) -> Iterator[Kept]:
        """A block in which the other processes hold a copy of the value, for several tasks."""
        number = next(_NUMBERS)
        with self.everywhere(_keep, number, value):
            pass
        yield Kept(number)
        with self.everywhere(_drop, number):
            pass

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """A block in which this process computes as if it were the only one."""
        global _world  # noqa: PLW0603  see `join`
        together, _world = _world, World()
        try:
            yield
        finally:
            _world = together

    def serve(self) -> None:
        """Run the tasks of the main process until that has ended."""
        while True:
            sent = self._broadcast(None)
            if sent is None:
                dist.destroy_process_group()
                return
            task, given = unpacked(sent, _own_gpu(self.local_rank))
            del sent
            with contextlib.suppress(_ToldError), self._met():
                task(*given)

    def end(self) -> None:
        """Let the others end: the main process does."""
        if self.size > 1 and self.is_main and not self._lost:
            with contextlib.suppress(LostProcessError):
                self._broadcast(None)
                dist.destroy_process_group()

    @contextlib.contextmanager
    def _met(self) -> Iterator[None]:
        """A block whose end, or error, is a common point; one that was met as an error is it."""
        self._settled = False
        try:
            yield
        except BaseException as error:
            if self._lost:
                raise
            if not isinstance(error, Exception):
                # a signal or Ctrl-C may have come in the middle of anything: this process ends, and
                # the others with it
                self._lost = True
                raise
            if not self._settled:
                self.agree(error=error)
            if self.is_main:
                raise
            raise _ToldError from error
        else:
            self.agree()

    def _broadcast(self, value: Any) -> Any:
        held = [value]
        with self._connected():
            dist.broadcast_object_list(held)
        return held[0]

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Turn what torch says of a lost connection into one line."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not _is_of_connection(error):
                raise
            self._lost = True
            raise LostProcessError(_LOST) from error


class Kept:
    """A value that all processes hold; sent to another, it is that one's."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Callable[[int], Any], tuple[int]]:
        return _kept_value, (self._number,)


_kept: dict[int, Any] = {}


def _kept_value(number: int) -> Any:
    return _kept[number]


def _keep(number: int, value: Any) -> None:
    _kept[number] = value


def _drop(number: int) -> None:
    _kept.pop(number, None)


class _ToldError(Exception):
    """An error that the main process has heard of and tells."""


_LOST = (
    "another process of this command has ended; what it said stands above, and what was saved is "
    "intact"
)
_NUMBERS = itertools.count()
_world = World()


def world() -> World:
    """The processes of this command: `join` has made them one, else this is the only one."""
    return _world


def join() -> World:
    """Meet the other processes that were started with this one: nccl on cuda, gloo on the CPU.

    Where several processes have one GPU, gloo there too: nccl refuses that.
    """
    global _world  # noqa: PLW0603  a process is in one world, from its start to its end
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(_own_gpu(local_rank))
        shared = local_size > torch.cuda.device_count()
        backend = f"cpu:gloo,cuda:{'gloo' if shared else 'nccl'}"
    try:
        dist.init_process_group(backend, timeout=_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the {size} processes of this command cannot meet: {reason_of(error)}"
        ) from error
    _world = World(rank, size, local_rank, local_size)
    return _world


def _own_gpu(local_rank: int) -> torch.device | None:
    """One each, in turn where they are few; None where there is none."""
    count = torch.cuda.device_count()
    return torch.device("cuda", local_rank % count) if count else None


def _is_of_connection(error: RuntimeError) -> bool:
    if isinstance(error, dist.DistError):
        return True
    said = str(error).lower()
    return any(word in said for word in ("gloo", "nccl", "connection", "store"))
