"""What a temperature does to the probabilities of a split."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from imgcls.engine.temperature import Temperature
from imgcls.metrics.calibration import calibration_scores, reliability_bins
from imgcls.metrics.predictions import Predictions


def describe_calibration(temperature: Temperature, predictions: Predictions) -> dict[str, Any]:
    """The temperature, and the calibration scores and reliability bins before and after it."""
    before = replace(predictions, temperature=1.0)
    return {
        **asdict(temperature),
        "before": _described(before),
        "after": _described(predictions),
    }


def _described(predictions: Predictions) -> dict[str, Any]:
    bins = asdict(reliability_bins(predictions))
    return {
        **calibration_scores(predictions),
        "reliability": {name: values.tolist() for name, values in bins.items()},
    }
