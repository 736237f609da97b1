"""The processes that compute one command together: ranks, collectives, and what ends them all.

Process 0 runs the command as it would alone. The others serve it: they wait for a task, do their
part of it beside process 0, and wait for the next, until process 0 has ended. So whatever is
planned, printed, written or fitted is so once, and only what takes part in a task knows of others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from imgcls.engine.device.meeting import meet, own_gpu
from imgcls.engine.device.messages import packed, packed_error, unpacked, unpacked_error
from imgcls.errors import RunFailedError

T = TypeVar("T")


class LostProcessError(RunFailedError):
    """Another of the processes that train together has ended; what was saved is intact."""


@dataclass(frozen=True)
class Agreement:
    """What all processes know behind a common point.

    total: of the values that each one gave. stop: the first process's wish to stop, where there is
    one. news: what each process had to tell, by rank; () where none had.
    """

    total: float
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
    _at_work: bool = field(default=False, repr=False)

    @property
    def is_main(self) -> bool:
        """True for the process that runs the command, prints and writes."""
        return self.rank == 0

    @property
    def is_usable(self) -> bool:
        """False where a process has left in the middle of what they did together."""
        return not self._lost

    @property
    def is_at_work(self) -> bool:
        """True while this process does its part of a task; else it waits for the main one."""
        return self._at_work

    def agree(
        self,
        value: float = 0.0,
        *,
        error: BaseException | None = None,
        stop: Any = None,
        news: Any = None,
    ) -> Agreement:
        """Meet all other processes: the sum of what each one gives, and what any has to tell.

        Raises the error that the first process with one has met, in all of them.
        """
        if self.size == 1:
            if error is not None:
                raise error
            return Agreement(value, stop, () if news is None else (news,))
        self._settled = False
        told = error is not None or stop is not None or news is not None
        # of one size at every point: one process may be at another, with an error
        sums = torch.tensor([value, float(told)], dtype=torch.float64)
        everyone: list[Any] = [None] * self.size
        with self._in_step():
            dist.all_reduce(sums)
            total, telling = sums.tolist()
            if not telling:
                return Agreement(total)
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
        return Agreement(total, next(iter(stops), None), tuple(one for *_, one in everyone))

    def gather(self, value: T) -> list[T]:
        """What each process gives, by rank, in the main one; [] in the others."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        with self._in_step():
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
            with self._in_step():
                dist.all_reduce(tensor)
        return tensor

    @contextlib.contextmanager
    def inseparable(self) -> Iterator[None]:
        """A block that no process can leave by an error without leaving the others waiting."""
        if self.size == 1:
            yield
            return
        try:
            yield
        except BaseException as error:
            if self._settled:
                raise
            self._lost = True
            raise _as_lost(error) from error

    def tell(self, error: BaseException) -> None:
        """Make an error that this process has met known to all, where it is not: all raise it."""
        if self.size == 1 or self._settled:
            return
        try:
            self.agree(error=error)
        except Exception:
            if self._lost:
                raise

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
                _part()
                return
            task, given = unpacked(sent, own_gpu(self.local_rank))
            del sent
            with contextlib.suppress(_ToldError), self._met():
                self._at_work = True
                try:
                    task(*given)
                finally:
                    self._at_work = False

    def end(self) -> None:
        """Let the others end: the main process does."""
        if self.size > 1 and self.is_main and not self._lost:
            with contextlib.suppress(LostProcessError):
                self._broadcast(None)
                _part()

    @contextlib.contextmanager
    def _met(self) -> Iterator[None]:
        """A block whose end, or error, is a common point; one that was met as an error is it.

        The main process raises the error that any has met, the others _ToldError.
        """
        self._settled = False
        met: BaseException | None = None
        try:
            yield
        except BaseException as error:
            if self._lost:
                raise
            met = error
        try:
            if not (met and self._settled):
                self.agree(error=met)
        except BaseException as error:
            if self._lost:
                raise
            met = error
        if met is not None:
            if self.is_main:
                raise met
            raise _ToldError from met

    def _broadcast(self, value: Any) -> Any:
        held = [value]
        with self._in_step():
            dist.broadcast_object_list(held)
        return held[0]

    @contextlib.contextmanager
    def _in_step(self) -> Iterator[None]:
        """A block of collectives: whatever ends it early leaves the others at one of them."""
        try:
            yield
        except BaseException as error:
            self._lost = True
            raise _as_lost(error) from error


def _part() -> None:
    """Meet for the last time: no process is to go before all know that it may.

    Whoever is behind the others finds them gone. Torch's own parting ends a process by SIGABRT now
    and then, where something still holds the group; `imgcls.__main__` leaves without.
    """
    with contextlib.suppress(Exception):
        dist.all_reduce(torch.zeros(1))


class _ToldError(Exception):
    """An error that the main process has heard of and tells."""


_LOST = (
    "another process of this command has ended; why stands above where it could say so; what was "
    "saved is intact, and `imgcls resume` goes on with a run"
)
_world = World()


def world() -> World:
    """The processes of this command: `join` has made them one, else this is the only one."""
    return _world


def join() -> World:
    """Meet the other processes that were started with this one: see `meet`."""
    global _world  # noqa: PLW0603  a process is in one world, from its start to its end
    _world = World(*meet())
    return _world


def _as_lost(error: BaseException) -> BaseException:
    """The error, or what torch says of a lost connection as one line."""
    said = str(error).lower() if isinstance(error, RuntimeError) else ""
    of_connection = any(word in said for word in ("gloo", "nccl", "connection", "store"))
    lost = isinstance(error, dist.DistError) or of_connection
    return LostProcessError(_LOST) if lost else error
