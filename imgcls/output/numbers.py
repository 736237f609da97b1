"""Numbers formatted for the screen, pages and pictures; files keep all digits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

MISSING = "-"
_MOST_DECIMALS = 2
# a class with fewer pictures than these is said to have few
_FEW = 20
_MOST_NAMED = 3
_GIB = 2**30


def percent(value: float | None, pictures: int) -> str:
    """A share of so many pictures in percent, with the decimals that one picture can move.

    96% of up to 100 pictures, 96.3% of up to 1,000, 96.31% of more.
    """
    if value is None:
        return MISSING
    return f"{value:.{_decimals(pictures)}%}"


def counted(count: int, one: str, many: str) -> str:
    """1 class, 2 classes, 1,000 classes."""
    return f"{count:,} {one if count == 1 else many}"


def pictures_and_classes(pictures: int, classes: int) -> str:
    """How large a data set is: "1,797 pictures, 10 classes"."""
    of = counted(classes, "class", "classes")
    return f"{counted(pictures, 'picture', 'pictures')}, {of}"


def byte_size(size_bytes: float) -> str:
    """A size on disk or in memory: 0.4 MiB, 12.0 MiB, 1.5 GiB."""
    if size_bytes < _GIB:
        return f"{size_bytes / 2**20:.1f} MiB"
    return f"{size_bytes / _GIB:.1f} GiB"


def score(value: float | None) -> str:
    """A number that is no share of pictures, such as an area or a loss, with four decimals."""
    return MISSING if value is None else f"{value:.4f}"


def reach(interval: Sequence[float] | None, written: Callable[[float], str]) -> str:
    """An interval formatted for reading, "" where there is none."""
    return "" if interval is None else " to ".join(map(written, interval))


def _decimals(pictures: int) -> int:
    # one picture more or less is 100 / pictures percent
    return min(max(len(str(max(pictures, 1) - 1)) - 2, 0), _MOST_DECIMALS)


@dataclass(frozen=True)
class Share:
    """A share of so many pictures, as a cell of a table; None is a share of nothing."""

    value: float | None
    pictures: int

    def __str__(self) -> str:
        return percent(self.value, self.pictures)


@dataclass(frozen=True)
class Quantity:
    """A number as a cell of a table that reads in another way, such as a size or 3/10."""

    value: float
    text: str

    def __str__(self) -> str:
        return self.text


def few_pictures(support: Sequence[tuple[str, int]]) -> str:
    """One sentence on the classes with fewer than 20 scored pictures, "" where there are none.

    support: names of classes and their pictures. The lowest recall that n of n right pictures leave
    possible is the end of the exact interval of 95%, 0.025 ** (1 / n) (Clopper and Pearson, 1934).
    """
    few = sorted(((n, name) for name, n in support if 0 < n < _FEW), key=lambda row: row[0])
    if not few:
        return ""
    fewest = few[0][0]
    smallest = [name for n, name in few if n == fewest]
    who = ", ".join(smallest)
    if len(smallest) > _MOST_NAMED:
        who = f"{len(smallest):,} classes"
    each = (
        f"{who} {'has' if len(smallest) == 1 else 'have'} {fewest}{' each' * (len(smallest) > 1)}"
    )
    if len(few) > len(smallest):
        each = f"{len(few):,} classes have fewer than {_FEW}; {each}"
    lowest = percent(0.025 ** (1 / fewest), 1)
    return (
        f"Few pictures: {each}. One picture is {percent(1 / fewest, 1)} of such a class's recall, "
        f"and with all of them right the true recall may still be {lowest} (95% interval)."
    )
