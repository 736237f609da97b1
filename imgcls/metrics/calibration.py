"""Whether a stated probability can be taken at its word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgcls.metrics.blocks import blocks
from imgcls.metrics.predictions import PictureFacts, Predictions

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
    predictions: Predictions | PictureFacts, bins: int = NUM_BINS, *, equal_mass: bool = False
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


def calibration_scores(predictions: Predictions) -> dict[str, float]:
    """nll, brier, ece, ece_equal_mass and classwise_ece."""
    return {
        "nll": float(predictions.picture_losses.mean()),
        "brier": float(predictions.brier_scores.mean()),
        "ece": expected_calibration_error(reliability_bins(predictions)),
        "ece_equal_mass": expected_calibration_error(
            reliability_bins(predictions, equal_mass=True)
        ),
        "classwise_ece": classwise_calibration_error(predictions),
    }


def classwise_calibration_error(predictions: Predictions, bins: int = NUM_BINS) -> float:
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
