"""What the rows of a prediction come to, counted as they are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from imgcls.results.prediction import PredictedRow, Tally


@dataclass
class Counts:
    """A tally that grows."""

    pictures: int = 0
    unreadable: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    set_sizes: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, tally: Tally) -> Counts:
        """One that goes on from there."""
        return cls(
            tally.pictures,
            tally.unreadable,
            Counter(tally.classes),
            Counter(tally.flags),
            Counter(tally.set_sizes),
        )

    def add(self, rows: Iterable[PredictedRow]) -> None:
        """Count some more rows."""
        for row in rows:
            self.pictures += 1
            self.unreadable += row.error is not None
            if row.labels:
                self.classes[row.labels[0]] += 1
            if row.flag is not None:
                self.flags[row.flag] += 1
            if row.members is not None:
                self.set_sizes[str(len(row.members))] += 1

    @property
    def tally(self) -> Tally:
        """What they come to so far."""
        return Tally(
            self.pictures,
            self.unreadable,
            dict(self.classes),
            dict(self.flags),
            dict(self.set_sizes),
        )
