"""The temperature that mends a checkpoint's probabilities, beside its weights.

    step-00001200/
      checkpoint.json      holds the one fitted while training, where there was one
      calibration.json     added later, replaced atomically; names the weights it belongs to

The checkpoint's own files stay as they were written.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls.config.files import read_json
from imgcls.errors import CheckpointError
from imgcls.metrics.calibration import limit_reached
from imgcls.storage.durable import strict_json

if TYPE_CHECKING:
    from imgcls.engine.checkpoint.folder import Checkpoint

CALIBRATION = "calibration.json"
_FORMAT = "imgcls-calibration"


@dataclass(frozen=True)
class Temperature:
    """softmax(logits / temperature) is calibrated on `samples` pictures of the split fitted_on.

    reason: what to know of it, such as why it is 1; None when there is nothing.
    """

    temperature: float
    fitted_on: str
    samples: int
    reason: str | None = None


def temperature_file(checkpoint: Checkpoint, temperature: Temperature) -> tuple[Path, str]:
    """Where a temperature is kept with a checkpoint, and the text of that file."""
    content = {
        "format": _FORMAT,
        "weights_sha256": checkpoint.weights_sha256,
        **asdict(temperature),
    }
    return checkpoint.folder / CALIBRATION, strict_json(content, indent=2) + "\n"


def read_temperature(checkpoint: Checkpoint) -> Temperature | None:
    """The temperature stored with a verified checkpoint, or None when it was never calibrated.

    What was added later goes before what training found. Raises CheckpointError when the file is
    damaged or belongs to other weights.
    """
    file = checkpoint.folder / CALIBRATION
    again = "calibrate again with `imgcls evaluate --calibrate temperature`"
    try:
        content: Any = read_json(file)
        if content["format"] != _FORMAT:
            raise ValueError  # noqa: TRY301  answered with the others just below
        found = _usable(content["temperature"], content["fitted_on"], content["samples"])
        # earlier versions gave no reason, and fitted beyond the limits of now
        reason = content.get("reason") or limit_reached(found.temperature)
    except FileNotFoundError:
        return _fitted_in_training(checkpoint)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: damaged; {again}") from error
    if content["weights_sha256"] != checkpoint.weights_sha256:
        raise CheckpointError(f"{file}: belongs to other weights; {again}")
    return replace(found, reason=reason)


def _fitted_in_training(checkpoint: Checkpoint) -> Temperature | None:
    try:
        found = (checkpoint.sidecar.metrics or {}).get("val_temperature")
        if found is None:
            return None
        usable = _usable(found, "val", checkpoint.sidecar.val_pictures)
        return replace(usable, reason=limit_reached(usable.temperature))
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint.folder}: the sidecar's temperature is not usable"
        ) from error


def _usable(temperature: Any, fitted_on: Any, samples: Any) -> Temperature:
    found = Temperature(float(temperature), str(fitted_on), int(samples))
    if not (math.isfinite(found.temperature) and found.temperature > 0):
        raise ValueError
    return found
