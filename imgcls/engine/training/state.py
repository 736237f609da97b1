"""All that must be saved for a run to go on exactly where it stopped."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from imgcls.engine.training.selection.trackers import count_from_one


@runtime_checkable
class Stateful(Protocol):
    """A part that can be saved and go on from what was saved."""

    def state_dict(self) -> Mapping[str, Any]:
        """The state, as JSON types, tensors, tuples and dicts."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Go on from a state."""


@dataclass
class Progress:
    """How far a fold has come. It counts updates, so a run can go on inside an epoch.

    epoch: epochs completed; step: updates made in all; step_in_epoch: updates made in the epoch
    under way; loss_sum, samples, elapsed_s: of training in that epoch so far; lr: of the last
    update. trained: no epoch is to come; finished: nothing is.
    """

    epoch: int = 0
    step: int = 0
    step_in_epoch: int = 0
    loss_sum: float = 0.0
    samples: int = 0
    elapsed_s: float = 0.0
    lr: float = 0.0
    trained: bool = False
    finished: bool = False
    stopped_early: bool = False

    def complete_epoch(self) -> None:
        """Count one more epoch as completed and start the sums anew."""
        self.epoch += 1
        self.step_in_epoch = 0
        self.loss_sum = 0.0
        self.samples = 0
        self.elapsed_s = 0.0

    def decide(self, epochs: int, *, out_of_patience: bool) -> None:
        """Say whether training ends behind the epochs completed, of so many.

        What is at its last epoch anyway was not stopped early.
        """
        done = self.epoch >= epochs
        self.stopped_early = out_of_patience and not done
        self.trained = done or self.stopped_early
        self.finished = self.finished and self.trained

    def state_dict(self) -> dict[str, Any]:
        """All counts."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from these counts."""
        for item in fields(self):
            # earlier versions were finished behind the last epoch
            name = "finished" if item.name == "trained" and "trained" not in state else item.name
            setattr(self, item.name, state[name])


class History:
    """One row per completed epoch, by the names of `history.csv`.

    `epoch` counts completed epochs: 1 for the first, 0 for a fitted classifier before it.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float | None]] = []

    def append(self, row: Mapping[str, float | None]) -> None:
        """Add the row of the epoch just completed."""
        self.rows.append(dict(row))

    def state_dict(self) -> dict[str, Any]:
        """All rows."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on behind these rows."""
        self.rows = count_from_one(state["rows"])


class RandomState:
    """The global random states of python, numpy, torch and the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def state_dict(self) -> dict[str, Any]:
        """The states as they are now."""
        state: dict[str, Any] = {
            "python": random.getstate(),
            "numpy": np.random.get_state(),  # noqa: NPY002  timm's Mixup draws from it
            "torch": torch.get_rng_state(),
        }
        if self._device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self._device)
        elif self._device.type == "mps":
            state["mps"] = torch.mps.get_rng_state()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the states; a device that the state does not know keeps its own."""
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])  # noqa: NPY002  timm's Mixup draws from it
        torch.set_rng_state(state["torch"])
        if self._device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self._device)
        elif self._device.type == "mps" and "mps" in state:
            torch.mps.set_rng_state(state["mps"])


class TrainState:
    """The weights to use, and the other parts with state by name.

    The checkpointer saves each and looks into none; the weights become model.safetensors. A new
    stateful part is a new key.
    """

    def __init__(self, weights: nn.Module, **parts: Stateful) -> None:
        self.weights = weights
        self.parts = parts

    def state_dict(self) -> dict[str, Mapping[str, Any]]:
        """The state of every part but the weights, by name."""
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Give every part its state. Raises KeyError for a part the state lacks."""
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
