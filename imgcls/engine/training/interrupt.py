"""Signals: a wish that the loop meets at its next step, or the end of the process."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

# a signal's number, or the reason of the job that runs a training
Wish = tuple[int | None, str | None]

_ENDING = ("SIGTERM", "SIGHUP", "SIGUSR1")
# `timeout -s INT` sends its signal to the process and to the group: twice, and no second wish
_SAME_WISH_S = 0.25


class SignalledError(BaseException):
    """A signal that ends the work at once; no `except Exception` on its way takes it for a fault.

    Raised from the signal's handler, anywhere in the main thread.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number


class StopRequest:
    """The wish that training stops: a signal's number, or the reason of the job that runs it."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.reason: str | None = None
        self._at_once = False

    def __bool__(self) -> bool:
        return self.signal_number is not None or self.reason is not None

    def wish(self) -> Wish | None:
        """What was heard, for other processes."""
        return (self.signal_number, self.reason) if self else None

    def take(self, wish: Wish | None) -> None:
        """Take over what another process has heard."""
        if wish is not None:
            self.signal_number, self.reason = wish

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A block that a signal ends by SignalledError: nothing in it waits to be saved."""
        self._at_once = True
        try:
            self.raise_at_once()
            yield
        finally:
            self._at_once = False

    def raise_at_once(self) -> None:
        """Raise SignalledError where a signal was heard and the work under way can end at once."""
        if self._at_once and self.signal_number is not None:
            raise SignalledError(self.signal_number)


@contextlib.contextmanager
def stop_on_signals(
    on_first: Callable[[int], None] | None = None, request: StopRequest | None = None
) -> Iterator[StopRequest]:
    """A StopRequest that the first SIGINT, SIGTERM, SIGHUP or SIGUSR1 fills, and tells `on_first`.

    request: the one to fill, where the caller has its own reasons to stop.

    A second SIGINT raises KeyboardInterrupt at once. A signal that was ignored when the block
    began, as nohup does with SIGHUP, is ignored in it too.
    """
    request = StopRequest() if request is None else request
    heard_s = 0.0

    def handle(signal_number: int, _frame: FrameType | None) -> None:
        nonlocal heard_s
        if request.signal_number is None:
            heard_s = time.monotonic()
            request.signal_number = signal_number
            if on_first is not None:
                on_first(signal_number)
            request.raise_at_once()
        elif signal_number == signal.SIGINT and time.monotonic() - heard_s > _SAME_WISH_S:
            raise KeyboardInterrupt

    with _handled_by(handle, ("SIGINT", *_ENDING)):
        yield request


@contextlib.contextmanager
def end_on_signals() -> Iterator[None]:
    """A block that SIGTERM, SIGHUP or SIGUSR1 ends by SignalledError, so that it can clean up."""

    def handle(signal_number: int, _frame: FrameType | None) -> None:
        raise SignalledError(signal_number)

    with _handled_by(handle, _ENDING):
        yield


@contextlib.contextmanager
def _handled_by(
    handle: Callable[[int, FrameType | None], None], names: tuple[str, ...]
) -> Iterator[None]:
    # outside the main thread, where python allows no handlers, signals keep their usual meaning
    previous = {}

    def heard(number: int, frame: FrameType | None) -> None:
        if number == getattr(signal, "SIGHUP", None):
            _let_go_of_terminals()
        handle(number, frame)

    if threading.current_thread() is threading.main_thread():
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        for number in numbers:
            # ignored, as nohup leaves SIGHUP, or in the hands of a C library
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                previous[number] = signal.signal(number, heard)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _let_go_of_terminals() -> None:
    """Write to nowhere what was meant for a terminal that has gone; each line would be an error."""
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream)
                os.close(nowhere)
