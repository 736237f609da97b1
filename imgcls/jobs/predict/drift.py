"""Whether the pictures of a prediction are other ones than the run's val pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from imgcls.jobs.predict.doubts import Doubts
from imgcls.metrics.drift import shifts
from imgcls.results.prediction import UNLIKE, ShareShift, Tally


def drift(tally: Tally, doubts: Doubts, class_names: Sequence[str]) -> tuple[ShareShift, ...]:
    """The shares of predicted classes, and of pictures flagged unlike, that val does not have.

    Empty where nothing is kept of val to be compared with. Shares with their Clopper-Pearson
    intervals, as `metrics.drift.shifts` has them.
    """
    named: list[tuple[str, str]] = []
    counts: list[int] = []
    before: list[float] = []
    units: np.ndarray | None = None
    if doubts.validation is not None:
        predicted, units = doubts.validation.predicted, doubts.validation.units
        named += [("class", name) for name in class_names]
        counts += [tally.classes.get(name, 0) for name in class_names]
        before += (np.bincount(predicted, minlength=len(class_names)) / len(predicted)).tolist()
    if doubts.features is not None:
        units = doubts.features.units
        named.append(("flag", UNLIKE))
        counts.append(tally.flags.get(UNLIKE, 0))
        before.append(float((doubts.features.distances > doubts.farthest).mean()))
    if units is None:
        return ()
    pictures = tally.pictures - tally.unreadable
    found = shifts(np.array(counts), pictures, np.array(before), len(np.unique(units)))
    return tuple(
        ShareShift(*named[one.index], one.share, one.interval, one.before, one.before_interval)
        for one in found
    )
