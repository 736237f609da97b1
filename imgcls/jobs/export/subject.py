"""The model to export, and what its files say of it."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from imgcls.config.files import read_json
from imgcls.data.pixels.decode import MODES
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.engine.checkpoint.temperature import Temperature, read_temperature
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.scoring.scorer import Scorer
from imgcls.jobs.checkpoint_config import decoding_of
from imgcls.jobs.evaluate.held_out import sets_of
from imgcls.jobs.scorer import open_scorer
from imgcls.metrics.conformal import fewest_units
from imgcls.models.card import Preprocessing, preprocessing_from_card
from imgcls.results.record import to_plain
from imgcls.storage.durable import strict_json
from imgcls.storage.evaluations import FORMAT, METRICS
from imgcls.storage.held_out import read_validation
from imgcls.storage.runs import results_folder

_COVERAGES = (0.9, 0.95)
_ALWAYS = ("imgcls", "torch", "timm")
_RGB = 3


@dataclass(frozen=True, eq=False)
class Subject:
    """A verified checkpoint with its model in float32 on the CPU, whatever else there is.

    scorer: has the temperature in it, 1 where none is kept. profile: what files with a graph take.
    """

    checkpoint: Checkpoint
    scorer: Scorer
    preprocessing: Preprocessing
    temperature: Temperature | None
    profile: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the outputs."""
        return self.checkpoint.class_names

    def metadata(self, profile: str | None, packages: Iterable[str] = ()) -> dict[str, Any]:
        """What a file says of the model, as JSON types; see examples/exporting.md.

        profile: of the file, None for weights alone. packages: those that made the
        file, beside torch and timm.
        """
        one = self.checkpoint
        sidecar = one.sidecar
        calibration = self.temperature and {
            "temperature": self.temperature.temperature,
            "fitted_on": self.temperature.fitted_on,
            "pictures": self.temperature.samples,
        }
        plain: dict[str, Any] = to_plain(
            {
                "model_name": one.model_name,
                "architecture": one.card["architecture"],
                "labels": list(one.class_names),
                "decoding": self._decoding(profile),
                "preprocessing": self.preprocessing.to_json(),
                "calibration": calibration,
                "conformal": self._conformal(),
                "metrics": {"val": self._val(), "test": self.test_scores},
                "checkpoint": {
                    "name": one.folder.name,
                    "fold": sidecar.fold,
                    "epoch": sidecar.epoch,
                    "share": sidecar.share,
                    "step": sidecar.step,
                    "weights_sha256": one.weights_sha256,
                },
                "data_fingerprint": sidecar.data_fingerprint,
                "versions": versions((*_ALWAYS, *packages)),
            }
        )
        return plain

    def _decoding(self, profile: str | None) -> dict[str, Any]:
        """What becomes of a picture's file before the preprocessing."""
        decoding = decoding_of(self.checkpoint)
        return {
            "orientation": "as EXIF says",
            # a graph that takes pictures makes them grey by itself
            "mode": MODES[_RGB if profile == "picture" else decoding.channels],
            "background": decoding.background,
            "bit_depth": decoding.bit_depth or None,
        }

    def _conformal(self) -> list[dict[str, Any]] | None:
        """The thresholds of sets, where val pictures are kept as this file's model scores them."""
        one = self.checkpoint
        found = read_validation(one.folder, one.weights_sha256, len(one.class_names))
        if found is None or (found.temperature, found.tta, found.amp) != (
            self.scorer.temperature,
            "none",
            "off",
        ):
            return None
        units = len(set(found.units.tolist()))
        levels = [level for level in _COVERAGES if units >= fewest_units(level)]
        fitted = [sets_of(found, level, "conformal") for level in levels]
        return [
            {
                "coverage": sets.coverage,
                "thresholds": sets.thresholds.tolist(),
                "prevalence": sets.prevalence.tolist(),
                "pictures": sets.pictures,
                "units": sets.units,
            }
            for sets in fitted
        ] or None

    def _val(self) -> dict[str, Any] | None:
        """What the training of this checkpoint measured on its val split."""
        sidecar = self.checkpoint.sidecar
        if sidecar.metrics is None:
            return None
        kept = {name: value for name, value in sidecar.metrics.items() if name.startswith("val_")}
        return {"pictures": sidecar.val_pictures, "metrics": kept}

    @cached_property
    def test_scores(self) -> dict[str, Any] | None:
        """The run's evaluation of its test split, where it is of this very checkpoint."""
        try:
            found = read_json(results_folder(self.checkpoint.folder) / "test" / METRICS)
            of = Path(found["checkpoint"]).name
            if found["format"] != FORMAT or of != self.checkpoint.folder.name:
                return None
            if found["class_names"] != list(self.class_names):
                return None
            return {
                "pictures": found["speed_metrics"]["samples_tested"],
                "temperature": found["temperature"],
                "metrics": found["metrics"],
                "intervals": found["intervals"],
                "intervals_method": found["intervals_method"],
            }
        except (OSError, ValueError, LookupError, TypeError):
            return None


def open_subject(checkpoint: Checkpoint, profile: str) -> Subject:
    """The model of a verified checkpoint. Raises CheckpointError."""
    temperature = read_temperature(checkpoint)
    compute = ComputeSettings(torch.device("cpu"))
    heat = 1.0 if temperature is None else temperature.temperature
    scorer = open_scorer(checkpoint, compute, heat)
    scorer.model.eval()
    preprocessing = preprocessing_from_card(checkpoint.card)
    return Subject(checkpoint, scorer, preprocessing, temperature, profile)


def as_texts(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The metadata as texts by name: what is no text is JSON."""
    return {
        key: value if isinstance(value, str) else strict_json(value)
        for key, value in metadata.items()
    }


def versions(packages: Iterable[str]) -> dict[str, str]:
    """The version of Python and of each of these packages that is installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
