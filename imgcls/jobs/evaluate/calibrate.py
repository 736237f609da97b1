"""What a temperature does to the probabilities of a split."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from imgcls.engine.checkpoint.temperature import Temperature
from imgcls.metrics.calibration import (
    calibration_scores,
    expected_calibration_error,
    reliability_bins,
)
from imgcls.metrics.predictions import Predictions


def describe_calibration(temperature: Temperature, predictions: Predictions) -> dict[str, Any]:
    """The temperature, and the calibration scores and reliability bins before and after it."""
    before = replace(predictions, temperature=1.0)
    return {
        **asdict(temperature),
        "before": _described(before),
        "after": _described(predictions),
    }


def calibration_notes(
    temperature: Temperature, before: Predictions, after: Predictions
) -> tuple[str, ...]:
    """What to know of a temperature: its reason, and where it makes these pictures' scores worse.

    before, after: the predictions without and with it.
    """
    stated = f"the temperature {temperature.temperature:.3g}, fitted on {temperature.fitted_on}"
    notes = [f"{stated}: {temperature.reason}"] if temperature.reason else []
    scores = {
        "NLL": [float(p.picture_losses.mean()) for p in (before, after)],
        "ECE": [expected_calibration_error(reliability_bins(p)) for p in (before, after)],
    }
    worse = [
        f"{name} rises from {without:.4f} to {with_it:.4f}"
        for name, (without, with_it) in scores.items()
        if round(with_it, 4) > round(without, 4)
    ]
    if worse:
        told = f"{stated}, makes these pictures' calibration worse: {', '.join(worse)}"
        notes.append(f"{told}; --calibrate none leaves it out")
    return tuple(notes)


def _described(predictions: Predictions) -> dict[str, Any]:
    bins = asdict(reliability_bins(predictions))
    return {
        **calibration_scores(predictions),
        "reliability": {name: values.tolist() for name, values in bins.items()},
    }
