"""Values that all processes of a command hold, for several tasks."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

from imgcls.engine.device.world import world

_NUMBERS = itertools.count()


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


@contextlib.contextmanager
def kept(value: Any) -> Iterator[Kept]:
    """A block in which the other processes hold a copy of the value, for several tasks."""
    here, number = world(), next(_NUMBERS)
    with here.everywhere(_keep, number, value):
        pass
    yield Kept(number)
    with here.everywhere(_drop, number):
        pass
