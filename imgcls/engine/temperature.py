"""The temperature that mends a checkpoint's probabilities, beside its weights.

    step-00001200/
      calibration.json     added later, replaced atomically; names the weights it belongs to

The checkpoint's own files stay as they were written.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from imgcls.engine.checkpoint import Checkpoint
from imgcls.engine.durable import strict_json, write_text
from imgcls.errors import CheckpointError, OutputError

CALIBRATION = "calibration.json"
_FORMAT = "imgcls-calibration"


@dataclass(frozen=True)
class Temperature:
    """softmax(logits / temperature) is calibrated on `samples` pictures of the split fitted_on."""

    temperature: float
    fitted_on: str
    samples: int


def save_temperature(checkpoint: Checkpoint, temperature: Temperature) -> None:
    """Write `calibration.json` into the checkpoint's folder. Raises OutputError."""
    content = {
        "format": _FORMAT,
        "weights_sha256": checkpoint.weights_sha256,
        **asdict(temperature),
    }
    file = checkpoint.folder / CALIBRATION
    try:
        write_text(file, strict_json(content, indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{file}: cannot be written ({error.strerror})") from error


def read_temperature(checkpoint: Checkpoint) -> Temperature | None:
    """The temperature stored with a verified checkpoint, or None when it was never calibrated.

    Raises CheckpointError when the file is damaged or belongs to other weights.
    """
    file = checkpoint.folder / CALIBRATION
    again = "calibrate again with `imgcls evaluate --calibrate temperature`"
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError  # noqa: TRY301  answered with the others just below
        found = Temperature(
            float(content["temperature"]), str(content["fitted_on"]), int(content["samples"])
        )
        if not (math.isfinite(found.temperature) and found.temperature > 0):
            raise ValueError  # noqa: TRY301
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: damaged; {again}") from error
    if content["weights_sha256"] != checkpoint.weights_sha256:
        raise CheckpointError(f"{file}: belongs to other weights; {again}")
    return found
