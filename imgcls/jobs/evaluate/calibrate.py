"""The temperature of `--calibrate`: fitted or kept, and what it does to the probabilities."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from imgcls.config.evaluate import EvaluateConfig
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.engine.checkpoint.temperature import Temperature, read_temperature
from imgcls.jobs.evaluate.pictures import own_pictures
from imgcls.jobs.evaluate.scored import Opened, Scored, Session
from imgcls.jobs.scorer import open_scorer
from imgcls.metrics.calculator import MetricSource
from imgcls.metrics.calibration import (
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)
from imgcls.metrics.predictions import Predictions
from imgcls.metrics.registry import get_metric
from imgcls.results.evaluation import Calibration, CalibrationScores
from imgcls.storage.scores import temporary_scores

_SCORES = ("nll", "brier", "ece", "ece_equal_mass", "classwise_ece")


def open_calibrated(session: Session, checkpoint: Checkpoint, folder: Path) -> Opened:
    """The checkpoint, ready to score with the temperature that `--calibrate` asks for.

    folder: a new one, where scores of val may lie meanwhile. A temperature that is fitted now is
    kept with the checkpoint by the session's results.
    """
    opened = Opened(checkpoint, open_scorer(checkpoint, session.compute))
    if session.config.calibrate == "temperature":
        return calibrated(opened, _fitted(session, opened, folder))
    return calibrated(opened, kept_temperature(session.config, checkpoint))


def calibrated(opened: Opened, temperature: Temperature | None) -> Opened:
    """The same, with this temperature; None leaves the scores as they are."""
    if temperature is None:
        return opened
    scorer = replace(opened.scorer, temperature=temperature.temperature)
    return replace(opened, scorer=scorer, temperature=temperature)


def kept_temperature(config: EvaluateConfig, checkpoint: Checkpoint) -> Temperature | None:
    """The temperature that is kept with a checkpoint, unless `--calibrate none` leaves it out."""
    return None if config.calibrate == "none" else read_temperature(checkpoint)


def _fitted(session: Session, opened: Opened, folder: Path) -> Temperature:
    val = own_pictures(opened.checkpoint, "val", session.config)
    with temporary_scores(folder, len(val.indices)) as file:
        seen = session.run(opened, val, file)
        fitted = fit_temperature(seen.logits, seen.labels, groups=val.groups)
        del seen
    found = Temperature(fitted.temperature, "val", len(val.indices), fitted.reason)
    session.results.keep(opened.checkpoint, found)
    return found


def calibration(scored: Scored) -> dict[str, Any]:
    """The temperature, and the calibration scores and reliability bins before and after it."""
    [temperature] = scored.temperatures
    if temperature is None:
        return {}
    after = scored.predictions
    before = replace(after, temperature=1.0)
    found = Calibration(**asdict(temperature), before=_described(before), after=_described(after))
    return {"calibration": found, "notes": calibration_notes(temperature, before, after)}


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


def _described(predictions: Predictions) -> CalibrationScores:
    bins = asdict(reliability_bins(predictions))
    reliability = {name: values.tolist() for name, values in bins.items()}
    source = MetricSource(predictions)
    scores = {name: source.value(get_metric(name)) for name in _SCORES}
    return CalibrationScores(**scores, reliability=reliability)
