"""Prediction sets that hold the right class as often as asked, by split conformal prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from imgcls.errors import ConfigError, DataError

# of (n + 1) * level, which is whole more often than floats show it
_ROUNDING = 1e-9
# how far thresholds go from the one for all pictures to the class's: as far as the overall coverage
# stays near what was asked, by tests/benchmarks/guarantees.py
_CLASS_WEIGHT = 0.4


@dataclass(frozen=True, eq=False)
class ConformalSets:
    """Which classes belong to a picture's set: those with p_c / prevalence_c >= thresholds_c.

    prevalence, thresholds: float64 [C]. own: bool [C], True where the class is covered by itself;
    the others are covered together only. pictures: those that the thresholds were fitted on;
    units: how many of them are independent, which is fewer where they have groups.
    """

    coverage: float
    prevalence: np.ndarray
    thresholds: np.ndarray
    own: np.ndarray
    pictures: int
    units: int

    def members(self, probabilities: np.ndarray) -> np.ndarray:
        """The set of each picture: bool [N, C] for probabilities float32 [N, C].

        The likeliest class is always in it, so that no set is empty: where the model is right more
        often than `coverage`, the sets are right that often, too.
        """
        probabilities = np.asarray(probabilities)
        if probabilities.ndim != 2 or probabilities.shape[1] != len(self.thresholds):  # noqa: PLR2004
            raise DataError(
                f"probabilities of shape {probabilities.shape} do not fit sets of "
                f"{len(self.thresholds)} classes"
            )
        found: np.ndarray = probabilities / self.prevalence >= self.thresholds
        found[np.arange(len(found)), probabilities.argmax(axis=1)] = True
        return found


def fewest_units(level: float) -> int:
    """How many calibration pictures a finite threshold needs: 9 at 0.9, 19 at 0.95, 99 at 0.99.

    The lowest n with ceil((n + 1) level) <= n.
    """
    return max(1, math.ceil(level / (1 - level) - _ROUNDING))


def conformal_quantile(scores: np.ndarray, level: float, units: np.ndarray | None = None) -> float:
    """The score that a new picture stays at or below with probability `level`; inf for too few.

    scores: float [N], the higher the stranger. units: int64 [N], the group of each picture.

    The ceil((n + 1) level)-th lowest of n scores (Vovk, Gammerman and Shafer, "Algorithmic Learning
    in a Random World", 2005; Papadopoulos et al., "Inductive Confidence Machines", 2002). Pictures
    of one group are not independent, so each counts as 1 / pictures of its group, and n is the
    number of groups: Lee, Barber and Willett, "Distribution-free inference with hierarchical data"
    (arXiv:2306.06342). That holds for a picture of a new group, drawn from it at random. Ties are
    counted in, whatever their order.
    """
    order = np.argsort(scores, kind="stable")
    weights, count = _weights(len(order), units)
    needed = math.ceil((count + 1) * level - _ROUNDING) if units is None else (count + 1) * level
    place = int(np.searchsorted(np.cumsum(weights[order]), needed - _ROUNDING))
    return float(scores[order[place]]) if place < len(order) else math.inf


def fit_sets(
    own_probabilities: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    prevalence: np.ndarray,
    coverage: float,
    *,
    units: np.ndarray | None = None,
) -> ConformalSets:
    """Thresholds for sets that hold the right class with a probability of at least `coverage`.

    own_probabilities: float32 [N], what each calibration picture's own class was given. labels,
    predicted: int64 [N], its own class and the likeliest. prevalence: float64 [C], each class's
    share of the training pictures, above 0; another one keeps the guarantee and changes which sets
    are small. units: int64 [N], the group of each picture, or None. The pictures must not be those
    that the model learnt from.

    The score is the prevalence-adjusted softmax p_c / prevalence_c, and the thresholds lie between
    the one that covers all pictures and the one that covers a class, as in Ding, Fermanian and
    Salmon, "Conformal Prediction for Long-Tailed Classification" (arXiv:2507.06867). Three things
    are other than there.

    * No set is without the likeliest class: a picture whose own class it is needs no threshold and
      has the best score of all. Else sets would hold the right class more often than they say.
    * No threshold is stricter than the one that covers all pictures. So each set holds that of
      plain split conformal prediction, and the overall guarantee stays whatever the data: at least
      `coverage`, for a new picture drawn as the calibration pictures were, on average over their
      draws. Thresholds in between that may be stricter guarantee 1 - 2 (1 - coverage) only.
    * Classes with fewer pictures (or groups) than `fewest_units(coverage)` share one threshold,
      fitted on all of theirs, where these are enough.

    The coverage of a single class is brought nearer to `coverage`, and not guaranteed.

    Raises ConfigError for a coverage outside 0..1, DataError for arrays that do not fit, a class
    without prevalence, or fewer pictures (or groups) than `fewest_units(coverage)`.
    """
    labels, prevalence = np.asarray(labels), np.asarray(prevalence, dtype=np.float64)
    _require(coverage, (own_probabilities, labels, predicted, units), prevalence)
    count = len(labels) if units is None else len(np.unique(units))
    if count < (fewest := fewest_units(coverage)):
        word = "pictures" if units is None else "independent groups of pictures"
        raise DataError(
            f"sets at {coverage:g} need {fewest} {word} that the model was not trained on; there "
            f"are {count}"
        )
    classes = len(prevalence)
    own = _units_by_class(labels, units, classes) >= fewest
    scores = _scores(np.asarray(own_probabilities), labels, predicted, prevalence)
    overall = conformal_quantile(scores, coverage, units)
    found = np.full(classes, overall)
    for chosen in [*(np.arange(classes) == c for c in np.flatnonzero(own)), ~own]:
        theirs = chosen[labels]
        by_class = conformal_quantile(
            scores[theirs], coverage, None if units is None else units[theirs]
        )
        if overall < by_class < math.inf:
            found[chosen] = overall + _CLASS_WEIGHT * (by_class - overall)
    return ConformalSets(coverage, prevalence, -found, own, len(labels), count)


def _scores(
    own_probabilities: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    prevalence: np.ndarray,
) -> np.ndarray:
    """-p / prevalence of the own class; where that is the likeliest, the best of the others'."""
    scores = -own_probabilities / prevalence[labels]
    right = labels == predicted
    # a number wherever there is one, so that there is a between
    scores[right] = scores[~right].min() if not right.all() else -np.inf
    return np.asarray(scores)


def _units_by_class(labels: np.ndarray, units: np.ndarray | None, classes: int) -> np.ndarray:
    """How many independent pictures each class has: int64 [C]."""
    if units is not None:
        labels = np.unique(np.stack([labels, units]), axis=1)[0]
    return np.bincount(labels, minlength=classes)


def _weights(count: int, units: np.ndarray | None) -> tuple[np.ndarray, int]:
    """(float64 [N], what each picture counts; how many independent units there are)."""
    if units is None:
        return np.ones(count), count
    _, numbers, sizes = np.unique(units, return_inverse=True, return_counts=True)
    return 1.0 / sizes[numbers], len(sizes)


def _require(
    coverage: float, columns: tuple[np.ndarray | None, ...], prevalence: np.ndarray
) -> None:
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage {coverage} is not between 0 and 1; 0.9 is usual")
    sizes = {len(column) for column in columns if column is not None}
    if len(sizes) > 1:
        raise DataError(f"probabilities, labels and groups of {sorted(sizes)} pictures do not fit")
    labels = np.asarray(columns[1])
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(prevalence):
        raise DataError(f"labels up to {labels.max()} do not fit {len(prevalence)} classes")
    if not (prevalence > 0).all():
        raise DataError(
            f"class {np.flatnonzero(~(prevalence > 0))[0]} has no prevalence; sets need the share "
            "of each class"
        )
