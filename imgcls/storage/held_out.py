"""What a model makes of pictures that it was not trained on, kept beside its weights.

    step-00001200/
      validation.safetensors   of each val picture of its run: label, prediction, probabilities
      features.safetensors     how the features of the training pictures are spread

Added later and replaced atomically; each names the weights it belongs to. The checkpoint's own
files stay as they were written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from imgcls.config.files import read_bytes
from imgcls.errors import CheckpointError
from imgcls.metrics.novelty import FeatureStatistics
from imgcls.storage.durable import remove_parts, why_not_written, write_bytes

VALIDATION, FEATURES = "validation.safetensors", "features.safetensors"
_FORMATS = {VALIDATION: "imgcls-validation", FEATURES: "imgcls-features"}
_AGAIN = {
    VALIDATION: "fit again with `imgcls evaluate --conformal 0.9`",
    FEATURES: "fit again with `imgcls evaluate --fit-unlike`",
}
_PICTURES, _CLASSES, _FEATURES = "pictures", "classes", "features"
# of each file: its arrays by name, each with its type and shape
_Arrays = Mapping[str, tuple[type[np.generic], tuple[str, ...]]]
_OF_VALIDATION: _Arrays = {
    "labels": (np.int64, (_PICTURES,)),
    "predicted": (np.int64, (_PICTURES,)),
    "own_probabilities": (np.float32, (_PICTURES,)),
    "confidences": (np.float32, (_PICTURES,)),
    "units": (np.int64, (_PICTURES,)),
    "prevalence": (np.float64, (_CLASSES,)),
}
_OF_FEATURES: _Arrays = {
    "means": (np.float64, (_CLASSES, _FEATURES)),
    "whitening": (np.float64, (_FEATURES, _FEATURES)),
    "distances": (np.float64, (_PICTURES,)),
    "units": (np.int64, (_PICTURES,)),
}


@dataclass(frozen=True, eq=False)
class Validation:
    """The val pictures of a run as one of its models sees them, N of C classes.

    labels, predicted: int64 [N]. own_probabilities, of the label's class, and confidences, of the
    predicted one: float32 [N]. units: int64 [N], which pictures belong together. prevalence:
    float64 [C], each class's share of the training pictures. They are by this temperature,
    over the views of this `--tta`, in the precision of this `--amp`.
    """

    labels: np.ndarray
    predicted: np.ndarray
    own_probabilities: np.ndarray
    confidences: np.ndarray
    units: np.ndarray
    prevalence: np.ndarray
    temperature: float
    tta: str
    amp: str

    @property
    def groups(self) -> np.ndarray | None:
        """The units, int64 [N], where some hold several pictures."""
        return _groups(self.units)

    @property
    def digest(self) -> str:
        """A hash of all that is in it."""
        return _digest(self._arrays(), f"{self.temperature} {self.tta} {self.amp}")

    def content(self, weights_sha256: str) -> bytes:
        """The file that keeps it with these weights."""
        metadata = {"temperature": repr(self.temperature), "tta": self.tta, "amp": self.amp}
        return _content(VALIDATION, weights_sha256, self._arrays(), metadata)

    def _arrays(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in _OF_VALIDATION}


@dataclass(frozen=True, eq=False)
class TrainedFeatures:
    """How the features of the training pictures are spread, and how far val pictures lie from them.

    distances: float64 [N], of the N val pictures; units: int64 [N], which of these belong together.
    trained: how many training pictures there were. In the precision of this `--amp`.
    """

    statistics: FeatureStatistics
    distances: np.ndarray
    units: np.ndarray
    trained: int
    amp: str

    @property
    def groups(self) -> np.ndarray | None:
        """The units, int64 [N], where some hold several pictures."""
        return _groups(self.units)

    @property
    def digest(self) -> str:
        """A hash of all that is in it."""
        return _digest(self._arrays(), f"{self.trained} {self.amp}")

    def content(self, weights_sha256: str) -> bytes:
        """The file that keeps it with these weights."""
        metadata = {"trained": str(self.trained), "amp": self.amp}
        return _content(FEATURES, weights_sha256, self._arrays(), metadata)

    def _arrays(self) -> dict[str, np.ndarray]:
        own = {
            field.name: getattr(self.statistics, field.name) for field in fields(self.statistics)
        }
        return {**own, "distances": self.distances, "units": self.units}


def read_validation(folder: Path, weights_sha256: str, num_classes: int) -> Validation | None:
    """What is kept of the val pictures with a checkpoint; None where nothing is.

    Raises CheckpointError when the file is damaged or belongs to other weights.
    """
    found = _read(folder / VALIDATION, weights_sha256, _OF_VALIDATION, num_classes)
    if found is None:
        return None
    arrays, metadata = found
    with _damaged(folder / VALIDATION):
        for name in ("labels", "predicted"):
            _require((arrays[name] >= 0).all() and (arrays[name] < num_classes).all())
        for name in ("own_probabilities", "confidences", "prevalence"):
            _require((arrays[name] >= 0).all() and (arrays[name] <= 1).all())
        heat = float(metadata["temperature"])
        return Validation(**arrays, temperature=heat, tta=metadata["tta"], amp=metadata["amp"])


def read_features(folder: Path, weights_sha256: str, num_classes: int) -> TrainedFeatures | None:
    """What is kept of the training pictures' features; None where nothing is. Raises as above."""
    found = _read(folder / FEATURES, weights_sha256, _OF_FEATURES, num_classes)
    if found is None:
        return None
    arrays, metadata = found
    with _damaged(folder / FEATURES):
        _require(np.isfinite(arrays["whitening"]).all() and (arrays["distances"] >= 0).all())
        statistics = FeatureStatistics(arrays["means"], arrays["whitening"])
        distances, units = arrays["distances"], arrays["units"]
        trained = int(metadata["trained"])
        return TrainedFeatures(statistics, distances, units, trained, metadata["amp"])


def keep(folder: Path, name: str, content: bytes) -> str | None:
    """Keep a file of this module with a checkpoint; in words, why it cannot be, None when it is."""
    file = folder / name
    try:
        remove_parts(file)  # of a process that was killed
        write_bytes(file, content)
    except OSError as error:
        return f"{file}: cannot be kept: {why_not_written(error)}"
    return None


def unit_numbers(groups: Sequence[str] | None, count: int) -> np.ndarray:
    """Which of so many pictures belong together, int64 [N], by their groups.

    One whose group is "" is alone; all are without groups.
    """
    numbers: dict[str | int, int] = {}
    names: Sequence[str] = groups or [""] * count
    found = [numbers.setdefault(name or row, len(numbers)) for row, name in enumerate(names)]
    return np.array(found, dtype=np.int64)


def _groups(units: np.ndarray) -> np.ndarray | None:
    return None if len(np.unique(units)) == len(units) else units


def _digest(arrays: Mapping[str, np.ndarray], more: str) -> str:
    digest = hashlib.sha256(more.encode())
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _content(
    name: str, weights_sha256: str, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> bytes:
    whole = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    own = {"format": _FORMATS[name], "weights_sha256": weights_sha256}
    return bytes(save(whole, metadata={**own, **metadata}))


def _read(
    file: Path, weights_sha256: str, known: _Arrays, num_classes: int
) -> tuple[dict[str, np.ndarray], Mapping[str, Any]] | None:
    """The arrays and the metadata of a file, checked; None where it is not there."""
    with _damaged(file):
        try:
            content = read_bytes(file)
        except FileNotFoundError:
            return None
        # safetensors reads metadata of files that it opens itself only
        size = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        _require(metadata["format"] == _FORMATS[file.name])
        arrays = load(content)
        _require(arrays.keys() == known.keys())
        sizes = {_CLASSES: num_classes}
        for name, (kind, shape) in known.items():
            array = arrays[name]
            _require(array.dtype == kind and array.ndim == len(shape))
            for axis, length in zip(shape, array.shape, strict=True):
                _require(sizes.setdefault(axis, length) == length)
        _require(sizes[_PICTURES] > 0)
        theirs = metadata["weights_sha256"]
    if theirs != weights_sha256:
        raise CheckpointError(f"{file}: belongs to other weights; {_AGAIN[file.name]}")
    return arrays, metadata


@contextlib.contextmanager
def _damaged(file: Path) -> Iterator[None]:
    """Raise what a damaged file makes of the block as a CheckpointError."""
    try:
        yield
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: damaged; {_AGAIN[file.name]}") from error


def _require(is_so: bool | np.bool_) -> None:
    if not is_so:
        raise ValueError
