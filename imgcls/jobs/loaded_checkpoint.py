"""A checkpoint loaded into a script's own model, and what it says as a mapping."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from imgcls.engine.checkpoint import folder as checkpoint_folder
from imgcls.engine.checkpoint.folder import Checkpoint, read_state
from imgcls.engine.device.runtime import get_device
from imgcls.engine.scoring.loaders import device_of
from imgcls.models.card import bare_model, tell_model
from imgcls.storage.model_folder import STATE

# what a script's save_checkpoint calls each part, or a training of imgcls
_PARTS = {
    "optimizer_state_dict": ("optimizer",),
    "scheduler_state_dict": ("scheduler", "schedule"),
    "scaler_state_dict": ("scaler",),
}
_METRICS = "metrics"


class _Unsaid(str):
    """A default, told from the same text where a caller says it."""

    __slots__ = ()


_CUDA = _Unsaid("cuda")


@dataclass(frozen=True, eq=False)
class LoadedCheckpoint(Checkpoint, Mapping[str, Any]):
    """A checkpoint, also as a mapping.

    epoch: how many epochs are behind it, so that `get("epoch", 0) + 1` is the one to go on with,
    counted from 1; where a script saved it, the epoch that it gave. metrics: of that epoch. These,
    and what else the checkpoint says of itself, such as class_names and config.

    Where a training state lies with it: optimizer_state_dict, scheduler_state_dict and
    scaler_state_dict, as `load_state_dict` of such an optimizer, scheduler and scaler takes them.
    They are read when they are asked for.
    """

    def __getitem__(self, key: str) -> Any:
        """Raises KeyError for what is not there, CheckpointError for a damaged training state."""
        if key in self._parts:
            return self._part(key)
        if key == _METRICS:
            return self._metrics
        if key in _PARTS:
            raise KeyError(f"{key}: {self.folder} holds no such training state")
        return self._said[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._said
        yield from self._parts

    def __len__(self) -> int:
        return len(self._said) + len(self._parts)

    def __contains__(self, key: object) -> bool:
        """Whether the key is there; the training state is not read for it."""
        return key in self._said or key in self._parts

    @cached_property
    def _said(self) -> dict[str, Any]:
        return {_METRICS: {}, **self.sidecar.to_json()}

    @cached_property
    def _parts(self) -> dict[str, str]:
        """The part of the saved state that stands behind each key."""
        there = self.state if self.state and (self.folder / STATE).exists() else {}
        found = {key: [name for name in names if name in there] for key, names in _PARTS.items()}
        return {key: names[0] for key, names in found.items() if names}

    @cached_property
    def _saved(self) -> dict[str, Any]:
        return read_state(self)

    def _part(self, key: str) -> Any:
        name = self._parts[key]
        part = self._saved[name]
        if name == "optimizer":
            return part["optimizer"]
        if name == "schedule":
            # torch's schedulers count epochs, ours counts updates; LambdaLR asks for its functions
            rates = [group["lr"] for group in self._part("optimizer_state_dict")["param_groups"]]
            epochs = {"last_epoch": self._said["epoch"], "_last_lr": rates, "lr_lambdas": []}
            return {**part, **epochs}
        return part

    @property
    def _metrics(self) -> dict[str, Any]:
        if self.state and _METRICS in self.state and (self.folder / STATE).exists():
            return dict(self._saved[_METRICS])
        metrics = dict(self._said[_METRICS])
        if "epoch" in metrics:
            # earlier versions counted it from 0 here
            metrics["epoch"] = self._said["epoch"]
        return metrics


def load_checkpoint(
    model: nn.Module,
    checkpoint_path: str | Path,
    device: str | torch.device = _CUDA,
    strict: bool = True,
) -> LoadedCheckpoint:
    """Load the weights at a path (checkpoint, fold or run folder: its best) into the model.

    The model is moved to the device, and learns the checkpoint's class names and preprocessing.
    Without a CUDA device, and when none was asked for, it stays where it is, with a warning. Gives
    the checkpoint, also as a mapping: `epoch`, `metrics`, `optimizer_state_dict`, ...

    strict: False passes over tensors that are missing in either. Raises CheckpointError when the
    checkpoint is not sound or a tensor does not fit, naming it, and where not one tensor is of the
    model; DeviceError for a device that is not there.
    """
    bare = bare_model(model)
    if isinstance(device, _Unsaid) and not torch.cuda.is_available():
        place = device_of(bare)
        warnings.warn(
            f"load_checkpoint: there is no CUDA device, so the model stays on {place}; give "
            f"device={str(place)!r} to say so",
            stacklevel=2,
        )
    else:
        place = get_device(device)
    found = checkpoint_folder.load_checkpoint(bare, checkpoint_path, place, strict=strict)
    tell_model(bare, found.card, found.class_names)
    return LoadedCheckpoint(**{item.name: getattr(found, item.name) for item in fields(found)})
