"""Signals, turned into a wish that the loop meets at the next step boundary."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

GRACEFUL_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
)


class StopRequest:
    """The wish that training stops: a signal's number, or the reason of the job that runs it."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.reason: str | None = None

    def __bool__(self) -> bool:
        return self.signal_number is not None or self.reason is not None


@contextlib.contextmanager
def stop_on_signals(
    on_first: Callable[[int], None] | None = None, request: StopRequest | None = None
) -> Iterator[StopRequest]:
    """A StopRequest that the first SIGINT, SIGTERM or SIGUSR1 fills, and `on_first` is told of.

    request: the one to fill, where the caller has its own reasons to stop.

    A second SIGINT raises KeyboardInterrupt at once. Outside the main thread, where python allows
    no handlers, signals keep their usual meaning.
    """
    request = StopRequest() if request is None else request
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def handle(signal_number: int, _frame: FrameType | None) -> None:
        heard = request.signal_number is not None
        if heard and signal_number == signal.SIGINT:
            raise KeyboardInterrupt
        if not heard:
            request.signal_number = signal_number
            if on_first is not None:
                on_first(signal_number)

    previous = {number: signal.signal(number, handle) for number in GRACEFUL_SIGNALS}
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
