"""Calibration: reliability bins, calibration errors, and temperature scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgcls.metrics.predictions import (
    PictureOutcomes,
    ScoredPictures,
    blocks,
    cross_entropies,
    require_scores,
)
from imgcls.metrics.resampling import Units, deal_folds, unit_numbers

TEMPERATURE_LIMITS = (0.1, 10.0)
# log T by its mean and standard deviation: 95% lie between temperatures of 0.38 and 2.7
_ANY_NETWORK = 0.0, 0.5
# 0.9 and 2.0; 400 to 1,760 other pictures of six sets asked for 1.0 to 2.0 (examples/recipes)
_FINE_TUNED = 0.3, 0.2
_FOLDS = 5
# beyond so many pictures one number cannot follow their noise, and two folds save time
_MANY = 2000
_TOLERANCE = 1e-5
NUM_BINS = 15


@dataclass(frozen=True)
class ReliabilityBins:
    """The reliability diagram's bins that hold pictures, by rising confidence; B of them.

    lower, upper: the bin's bounds (equal width) or its lowest and highest confidence (equal mass),
    float64 [B]. counts: pictures, int64 [B]. confidence, accuracy: their means, float64 [B].
    """

    lower: np.ndarray
    upper: np.ndarray
    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray


def reliability_bins(
    predictions: ScoredPictures | PictureOutcomes, bins: int = NUM_BINS, *, equal_mass: bool = False
) -> ReliabilityBins:
    """Confidence of the predicted class against how often it is right, in bins.

    Equal width: (i / bins, (i + 1) / bins], as in Guo et al., "On Calibration of Modern Neural
    Networks" (2017). Equal mass: pictures by rising confidence in `bins` parts of equal size, as
    in Roelofs et al., "Mitigating Bias in Calibration Error Estimation" (2022); pictures of equal
    confidence stay together, so that the result does not depend on the pictures' order.
    """
    confidences = predictions.confidences.astype(np.float64)
    if equal_mass:
        ranks = np.searchsorted(np.sort(confidences), confidences, side="left")
        chosen = ranks * bins // len(confidences)
    else:
        chosen = _equal_width(confidences, bins)
    counts = np.bincount(chosen, minlength=bins)
    held = np.flatnonzero(counts)
    if equal_mass:
        lower, upper = np.full(bins, np.inf), np.full(bins, -np.inf)
        np.minimum.at(lower, chosen, confidences)
        np.maximum.at(upper, chosen, confidences)
    else:
        lower, upper = np.arange(bins) / bins, np.arange(1, bins + 1) / bins
    return ReliabilityBins(
        lower=lower[held],
        upper=upper[held],
        counts=counts[held],
        confidence=np.bincount(chosen, weights=confidences, minlength=bins)[held] / counts[held],
        accuracy=np.bincount(chosen, weights=predictions.correct, minlength=bins)[held]
        / counts[held],
    )


def expected_calibration_error(bins: ReliabilityBins) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by their pictures (ECE).

    Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning" (2015), in the
    form of Guo et al. (2017). 0..1, biased upwards for few pictures.
    """
    gaps = np.abs(bins.confidence - bins.accuracy)
    return float((bins.counts * gaps).sum() / bins.counts.sum())


def classwise_calibration_error(predictions: ScoredPictures, bins: int = NUM_BINS) -> float:
    """ECE of each class's probability against its frequency, averaged over all C classes.

    Equal-width bins; Kull et al., "Beyond temperature scaling" (2019). A class without pictures
    counts with the probability that was given to it.
    """
    labels, softmax = predictions.labels, predictions.softmax
    count, classes = softmax.shape
    gaps = np.zeros(classes * bins)
    for rows in blocks(count, classes):
        scores = softmax[rows].astype(np.float64)
        cells = _equal_width(scores, bins) + np.arange(classes) * bins
        gaps += np.bincount(cells.ravel(), weights=scores.ravel(), minlength=classes * bins)
        own = labels[rows]
        gaps -= np.bincount(cells[np.arange(len(own)), own], minlength=classes * bins)
    return float(np.abs(gaps).sum() / (count * classes))


def _equal_width(scores: np.ndarray, bins: int) -> np.ndarray:
    """The bin (i / bins, (i + 1) / bins] of each score; 0 belongs to the first."""
    return np.asarray(np.clip(np.ceil(scores * bins).astype(np.int64) - 1, 0, bins - 1))


@dataclass(frozen=True)
class FittedTemperature:
    """softmax(logits / temperature) is calibrated; 1.0 where no other is worth it.

    held_out_nll: of pictures left out of the fit in turn, with the temperatures fitted on the
    others and with 1; None where there is one picture or group only. reason: what to know of the
    number, such as why it is 1; None when there is nothing.
    """

    temperature: float
    held_out_nll: tuple[float, float] | None
    reason: str | None = None


def fit_temperature(
    logits: np.ndarray,
    labels: np.ndarray,
    lowest: float = TEMPERATURE_LIMITS[0],
    groups: Units | None = None,
    *,
    fine_tuned: bool = False,
) -> FittedTemperature:
    """The T > 0 for which softmax(logits / T) has the lowest NLL, as far as few pictures can tell.

    logits: [N, C]; labels: integers [N]; groups [N]: pictures that are left out together. Guo et
    al., "On Calibration of Modern Neural Networks" (2017). Dividing by T keeps the order of the
    classes, so the predicted ones stay.

    Pictures that are all right would ask for T = 0. So log T has a normal prior: the sum of the
    losses, less the prior's log density, is lowest at T (maximum a posteriori). It weighs as much
    as a few pictures and fades as they become more. T lies within TEMPERATURE_LIMITS and not below
    `lowest`. Of any network, log T is expected about 0 with a standard deviation of 0.5, in which
    the temperatures of most lie, and T is kept only when it lowers the NLL of pictures left out of
    the fit in turn; else it is 1. fine_tuned: of weights fine-tuned by cross-entropy, which come
    out too sure, it is expected about 0.3 with one of 0.2, and T is kept without that test
    (measured in examples/recipes). Raises DataError for arrays that do not fit or are not finite.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    require_scores(logits, labels)
    limits = lowest, TEMPERATURE_LIMITS[1]
    prior = _FINE_TUNED if fine_tuned else _ANY_NETWORK
    units = np.arange(len(labels)) if groups is None else unit_numbers(groups)
    fold = deal_folds(units, 2 if len(labels) > _MANY else _FOLDS)
    folds = int(fold.max()) + 1
    if folds == 1:
        word = "picture" if len(labels) == 1 else "group"
        return FittedTemperature(1.0, None, f"one {word} alone tells no temperature")
    held_out = np.zeros(2)
    for number in range(folds):
        out = fold == number
        found = _most_likely(logits, labels, ~out, limits, prior)
        for side, temperature in enumerate((found, 1.0)):
            held_out[side] += cross_entropies(logits, labels, 1 / temperature)[out].sum()
    mended, plain = (float(total) / len(labels) for total in held_out)
    if not mended < plain and not fine_tuned:
        return FittedTemperature(
            1.0,
            (mended, plain),
            f"no temperature is better than none on pictures left out of the fit: their NLL is "
            f"{mended:.4f} with, {plain:.4f} without",
        )
    temperature = _most_likely(logits, labels, fold >= 0, limits, prior)
    return FittedTemperature(temperature, (mended, plain), _warning(temperature, logits, labels))


def limit_reached(temperature: float) -> str | None:
    """A note on a temperature that was fitted at a limit; None elsewhere."""
    near = 1 + 100 * _TOLERANCE
    lowest, highest = TEMPERATURE_LIMITS
    if lowest * near < temperature < highest / near:
        return None
    limit = lowest if temperature < 1 else highest
    return f"it stands at the limit of {limit:g} or beyond, where it is not to be trusted"


def _most_likely(
    logits: np.ndarray,
    labels: np.ndarray,
    chosen: np.ndarray,
    limits: tuple[float, float],
    prior: tuple[float, float],
) -> float:
    """The temperature of the highest posterior density by the chosen pictures, bool [N]."""
    from scipy.optimize import minimize_scalar

    expected, deviation = prior

    def loss(log_temperature: float) -> float:
        # of all pictures, although some are left out: the logits may be a file larger than memory
        losses = cross_entropies(logits, labels, float(np.exp(-log_temperature)))
        return float(losses[chosen].sum()) + ((log_temperature - expected) / deviation) ** 2 / 2

    # both terms fall towards their own valley, so that the sum has one between them
    found = minimize_scalar(
        loss, bounds=np.log(limits), method="bounded", options={"xatol": _TOLERANCE}
    )
    return float(np.exp(found.x))


def _warning(temperature: float, logits: np.ndarray, labels: np.ndarray) -> str | None:
    if (reached := limit_reached(temperature)) is not None:
        return reached
    if temperature < 1 and (logits.argmax(axis=1) == labels).all():
        return (
            f"none of the {len(labels):,} pictures is wrong, so they do not tell how sure is too "
            "sure: only the prior holds it"
        )
    return None
