"""The confidence from which a model may answer, so that few of its answers are wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from imgcls.errors import ConfigError, DataError

# neighbouring candidates differ by this factor in how many pictures they answer
_STEP = 1.1


@dataclass(frozen=True)
class AnswerThreshold:
    """Answer where the confidence is >= threshold, and at most `max_error` of the answers is wrong.

    That holds with probability `confidence_level` over the choice of the val pictures. threshold:
    inf where these pictures vouch for no answer at all, else a float32 number, 0 where all may be
    answered. answered: the share of the val pictures that are, 0..1. pictures: those that it was
    fitted on; units: those of them that count, one a group. errors: the wrong answers among the
    units that are answered. upper: the bound on the share of wrong answers; where nothing can be
    answered the lowest one that these pictures vouch for, 1 where they are too few for any.
    """

    max_error: float
    confidence_level: float
    threshold: float
    answered: float
    errors: int
    pictures: int
    units: int
    upper: float


def fewest_answers(max_error: float, confidence_level: float = 0.95) -> int:
    """How many pictures, all of them right, vouch for `max_error`: 59 for 0.05 at 95%."""
    return math.ceil(math.log(1 - confidence_level) / math.log1p(-max_error))


def error_bound(errors: np.ndarray, answered: np.ndarray, level: float) -> np.ndarray:
    """The upper Clopper-Pearson bound of an error rate, at `level`: float64.

    errors, answered: integers of one shape. Clopper and Pearson, "The Use of Confidence or Fiducial
    Limits" (1934); 1 where all are wrong or none is answered.
    """
    from scipy.stats import beta

    errors, answered = np.asarray(errors), np.asarray(answered)
    right = answered - errors
    bound = beta.ppf(level, errors + 1, np.maximum(right, 1))
    return np.asarray(np.where(right > 0, bound, 1.0))


def fit_answer_threshold(
    confidences: np.ndarray,
    correct: np.ndarray,
    max_error: float,
    *,
    units: np.ndarray | None = None,
    confidence_level: float = 0.95,
) -> AnswerThreshold:
    """The lowest confidence from which at most `max_error` of the answers is wrong.

    confidences: float32 [N]; correct: bool [N]; units: int64 [N], the group of each picture, or
    None. Of each group one picture is taken, drawn with a fixed seed, because those of one group
    are right or wrong together; the promise is then for one picture of a new group.

    Candidates answer the k most confident pictures, for ranks k that depend on N alone, each a
    tenth more than the one before. Given the confidence below the k best, these are independent
    draws of all pictures above it, so their errors are binomial and the Clopper-Pearson bound
    holds; the candidates share 1 - confidence_level (Bonferroni). It is the procedure of Geifman
    and El-Yaniv, "Selective Classification for Deep Neural Networks" (2017), with all candidates in
    place of a binary search, whose steps depend on what the earlier ones saw. Nothing is assumed of
    the model: confidence need not be calibrated, nor a higher one mean fewer errors. Pictures of
    equal confidence are answered together or not at all.

    Raises ConfigError for a max_error or confidence_level outside 0..1, DataError for arrays that
    do not fit, are empty or not finite.
    """
    confidences = np.asarray(confidences, dtype=np.float32)
    correct = np.asarray(correct, dtype=bool)
    _require(confidences, correct, units, max_error, confidence_level)
    chosen = np.arange(len(correct)) if units is None else one_of_each(np.asarray(units))
    order = np.argsort(-confidences[chosen], kind="stable")
    ranked, wrong = confidences[chosen][order], ~correct[chosen][order]
    ranks = _ranks(len(chosen), max_error, confidence_level)
    # answered is what lies strictly above the next one in rank, whatever is tied with it
    below = np.where(ranks < len(ranked), ranked[np.minimum(ranks, len(ranked) - 1)], -np.inf)
    answered = np.searchsorted(-ranked, -below, side="left")
    errors = np.concatenate([[0], np.cumsum(wrong)])[answered]
    level = 1 - (1 - confidence_level) / max(len(ranks), 1)
    bounds = error_bound(errors, answered, level)
    passed = np.flatnonzero(bounds <= max_error)
    if not len(passed):
        best, threshold = int(np.argmin(bounds)) if len(bounds) else None, math.inf
    else:
        best = int(passed[np.argmax(answered[passed])])
        threshold = _above(float(below[best]))
    return AnswerThreshold(
        max_error=max_error,
        confidence_level=confidence_level,
        threshold=threshold,
        answered=float((confidences >= threshold).mean()),
        errors=int(errors[best]) if len(passed) else 0,
        pictures=len(correct),
        units=len(chosen),
        upper=1.0 if best is None else float(bounds[best]),
    )


def one_of_each(units: np.ndarray) -> np.ndarray:
    """One picture of each unit, drawn with a fixed seed: rising positions, int64 [U]."""
    order = np.random.default_rng(0).permutation(len(units))
    return np.sort(order[np.unique(units[order], return_index=True)[1]])


def _ranks(count: int, max_error: float, confidence_level: float) -> np.ndarray:
    """How many pictures the candidates answer, all first: int64, empty where too few are there.

    As many candidates as can still pass, when all answers are right, at the level that so many
    leave to each.
    """
    ranks: list[int] = []
    while (rank := round(count / _STEP ** len(ranks))) >= fewest_answers(
        max_error, 1 - (1 - confidence_level) / (len(ranks) + 1)
    ):
        ranks.append(rank)
    return np.unique(np.array(ranks, dtype=np.int64))


def _above(confidence: float) -> float:
    """The next float32 above, so that the pictures at this confidence itself are not answered."""
    if math.isinf(confidence):
        return 0.0
    return float(np.nextafter(np.float32(confidence), np.float32(np.inf)))


def _require(
    confidences: np.ndarray,
    correct: np.ndarray,
    units: np.ndarray | None,
    max_error: float,
    confidence_level: float,
) -> None:
    for name, value in (("max_error", max_error), ("confidence_level", confidence_level)):
        if not 0 < value < 1:
            raise ConfigError(f"{name} {value} is not between 0 and 1")
    sizes = {len(confidences), len(correct), len(correct if units is None else units)}
    if len(sizes) > 1:
        raise DataError(f"confidences, correct and units of {sorted(sizes)} pictures do not fit")
    if not len(correct):
        raise DataError("no pictures to fit a threshold on")
    if not np.isfinite(confidences).all():
        raise DataError("confidences are not finite; the weights or a picture are damaged")
