"""Whether pictures are spread otherwise than others: shares with intervals that are apart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# that any line is wrong, of pictures that are spread alike
_MISTAKES = 0.05


@dataclass(frozen=True)
class Shift:
    """A share that differs: which one, what it is here and before, each with its interval."""

    index: int
    share: float
    interval: tuple[float, float]
    before: float
    before_interval: tuple[float, float]


def shifts(
    counts: np.ndarray, pictures: int, before: np.ndarray, before_units: int
) -> tuple[Shift, ...]:
    """The shares that differ from those before, the largest difference first.

    counts: int64 [K], of so many pictures. before: float64 [K], shares of pictures that count as
    so many independent ones. A share differs where the two Clopper-Pearson intervals are apart,
    each of level 1 - 0.05 / 2K: of pictures that are spread alike, any of the K is then taken for
    another one in at most 5% of cases (Bonferroni).
    """
    if not pictures or not before_units:
        return ()
    level = 1 - _MISTAKES / (2 * len(counts))
    low, high = clopper_pearson(counts, pictures, level)
    low_before, high_before = clopper_pearson(before * before_units, before_units, level)
    apart = np.flatnonzero((low > high_before) | (high < low_before))
    shares = counts / pictures
    order = apart[np.argsort(-abs(shares - before)[apart], kind="stable")]
    return tuple(
        Shift(
            int(k),
            float(shares[k]),
            (float(low[k]), float(high[k])),
            float(before[k]),
            (float(low_before[k]), float(high_before[k])),
        )
        for k in order
    )


def clopper_pearson(
    successes: np.ndarray, trials: int, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the exact interval of each share: float64 [K]. Clopper and Pearson (1934)."""
    from scipy.special import betaincinv

    tail, failures = (1 - level) / 2, trials - successes
    with np.errstate(invalid="ignore"):
        low = np.where(successes > 0, betaincinv(successes, failures + 1, tail), 0.0)
        high = np.where(failures > 0, betaincinv(successes + 1, failures, 1 - tail), 1.0)
    return low, high
