"""Checkpoints: folders that are complete or not there, verified whenever they are read.

    step-00001200/
      model.safetensors    the weights to use (the average where there is one), timm's own key names
      config.json          timm / Hugging Face model-folder format
      state.safetensors    the tensors the sidecar names; needed to resume only
      checkpoint.json      what it says of itself (Sidecar), state tree, sizes and hashes

Written to a temporary sibling, sidecar last, synced, then renamed. Nothing is pickled.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from imgcls.config.files import check_regular
from imgcls.engine.checkpoint.codec import decode_tree, encode_tree
from imgcls.engine.device.divided import copy_to_cpu
from imgcls.errors import CheckpointError, reason_of
from imgcls.results.checkpoint import Sidecar, StartingWeights
from imgcls.storage.durable import TEMPORARY_PREFIX, publish_folder, strict_json, sync_file
from imgcls.storage.model_folder import (
    CARD,
    STATE,
    WEIGHTS,
    is_model_folder,
    read_card,
    read_json,
    read_manifest,
    seal,
    verify,
    weights_of,
    write_manifest,
)
from imgcls.storage.pointers import find_checkpoint

# how Hugging Face's transformers name the weights of a timm model
_WRAPPED = "timm_model."


@dataclass(frozen=True)
class Snapshot:
    """Everything of one checkpoint, copied to the CPU: training may go on while it is written."""

    weights: dict[str, torch.Tensor]
    card: Mapping[str, Any]
    sidecar: Sidecar
    state: Any
    state_tensors: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint on disk.

    state_seal: size and hash that state.safetensors must have; None once they were verified.
    """

    folder: Path
    card: dict[str, Any]
    sidecar: Sidecar
    state: Any
    weights_sha256: str
    state_seal: Any

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the model's outputs."""
        return self.sidecar.class_names

    @property
    def model_name(self) -> str:
        """The name that its model was asked for by, or its architecture's."""
        return self.sidecar.model_name or str(self.card["architecture"])

    @property
    def starting_weights(self) -> StartingWeights:
        """The weights that its training began with, and their licence."""
        return self.sidecar.began_with(self.card)

    @property
    def fold(self) -> int:
        """The fold it was trained on."""
        return self.sidecar.fold or 0


def take_snapshot(
    model: nn.Module,
    card: Mapping[str, Any],
    sidecar: Sidecar | None = None,
    state: Mapping[str, Any] | None = None,
) -> Snapshot:
    """A copy of the model's weights and of the state, ready to be saved.

    card: the content of timm's config.json, as `imgcls.model_card` makes it. sidecar: what
    the checkpoint says of itself; by default the card's class names alone.
    state: the state of a TrainState; without it the checkpoint can be evaluated, not resumed.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = None if state is None else encode_tree(state, tensors, "state")
    weights = {key: copy_to_cpu(value).contiguous() for key, value in model.state_dict().items()}
    if sidecar is None:
        sidecar = Sidecar(class_names=tuple(card["label_names"]))
    return Snapshot(weights, card, sidecar, tree, tensors)


def save_checkpoint(snapshot: Snapshot, folder: str | Path) -> Path:
    """Write the snapshot as `folder`, which appears only when complete, and return it.

    Raises OSError when it cannot be written or the name is taken; nothing half-done stays visible.
    """
    folder = Path(folder)
    temporary = folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        write_tensors(snapshot.weights, temporary / WEIGHTS, {"format": "pt"})
        (temporary / CARD).write_text(strict_json(snapshot.card, indent=2), encoding="utf-8")
        names = [WEIGHTS, CARD]
        if snapshot.state is not None:
            write_tensors(snapshot.state_tensors, temporary / STATE)
            names.append(STATE)
        for name in names:
            sync_file(temporary / name)
        write_manifest(temporary, snapshot.sidecar, snapshot.state, names)
        publish_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def read_checkpoint(folder: Path, *, to_resume: bool = False) -> Checkpoint:
    """The checkpoint, after its sidecar, hashes and sizes were verified.

    state.safetensors is needed `to_resume` only: without, it is neither read nor missed, and
    `read_state` verifies it; with, it is verified here, where it is there at all.
    A timm model folder without a sidecar is one with weights and class names alone.
    Raises CheckpointError when anything is missing, damaged, mixed or from a newer format.
    """
    if not to_resume and is_model_folder(folder):
        card = read_card(folder)
        sha256 = str(seal(weights_of(folder))["sha256"])
        sidecar = Sidecar(class_names=tuple(card["label_names"] or ()))
        return Checkpoint(folder, card, sidecar, None, sha256, None)
    manifest = read_manifest(folder)
    seals = manifest.seals
    for name in (WEIGHTS, CARD):
        verify(folder / name, seals[name])
    state_seal = seals.get(STATE)
    if to_resume and state_seal is not None and (folder / STATE).exists():
        verify(folder / STATE, state_seal)
        state_seal = None
    return Checkpoint(
        folder,
        card=read_json(folder / CARD),
        sidecar=manifest.sidecar,
        state=manifest.state,
        weights_sha256=seals[WEIGHTS]["sha256"],
        state_seal=state_seal,
    )


def read_state(checkpoint: Checkpoint) -> dict[str, Any]:
    """The full training state of a verified checkpoint, as `TrainState.load_state_dict` takes it.

    Raises CheckpointError when the checkpoint was saved, or copied, without its state.
    """
    file = checkpoint.folder / STATE
    if checkpoint.state is None or not file.exists():
        raise CheckpointError(
            f"{checkpoint.folder}: holds weights but no training state ({STATE} is missing); "
            "it can be evaluated but not resumed"
        )
    if checkpoint.state_seal is not None:
        verify(file, checkpoint.state_seal)
    state: dict[str, Any] = decode_tree(checkpoint.state, _load_tensors(file))
    return state


def load_checkpoint(
    model: nn.Module, path: str | Path, device: str | torch.device = "cpu", *, strict: bool = True
) -> Checkpoint:
    """Load the weights at `path` (checkpoint, fold or run folder: its best) into the model.

    The model is moved to the device. Raises CheckpointError when the checkpoint is not sound or,
    with `strict`, when a tensor is missing, unexpected or of another shape, naming it.
    """
    checkpoint = read_checkpoint(find_checkpoint(Path(path)))
    load_weights(model, checkpoint, device, strict=strict)
    return checkpoint


def load_weights(
    model: nn.Module,
    checkpoint: Checkpoint,
    device: str | torch.device = "cpu",
    *,
    strict: bool = True,
) -> None:
    """Load the weights of a verified checkpoint into the model, as `load_checkpoint` does."""
    file = weights_of(checkpoint.folder)
    weights = _load_tensors(file)
    if weights and all(key.startswith(_WRAPPED) for key in weights):
        weights = {key.removeprefix(_WRAPPED): value for key, value in weights.items()}
    own = model.state_dict()
    mismatched = [
        f"{key} is {list(weights[key].shape)} in the file and {list(own[key].shape)} in the model"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    missing = [f"{key} is missing in the file" for key in own if key not in weights]
    unexpected = [f"{key} is not in the model" for key in weights if key not in own]
    # what has no tensor in common was not meant, whatever may be passed over
    strict = strict or not own.keys() & weights.keys()
    problems = mismatched + (missing + unexpected if strict else [])
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CheckpointError(f"{file}: {problems[0]}{more}")
    model.load_state_dict(weights, strict=strict)
    model.to(device)


def _load_tensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        check_regular(file)
        if file.suffix == ".bin":
            # tensors alone: nothing in it is run
            tensors: dict[str, torch.Tensor] = torch.load(
                file, map_location="cpu", weights_only=True
            )
        else:
            tensors = load_file(file)
    except UnpicklingError as error:
        # torch's own words advise to run what is in it
        raise CheckpointError(
            f"{file}: holds more than tensors, or is damaged; nothing is read that could run code: "
            "save the model as safetensors"
        ) from error
    except (SafetensorError, OSError, ValueError, RuntimeError, EOFError) as error:
        reason = reason_of(error)
        raise CheckpointError(f"{file}: cannot be read as named tensors ({reason})") from error
    if not isinstance(tensors, dict) or not all(torch.is_tensor(t) for t in tensors.values()):
        raise CheckpointError(f"{file}: holds more than named tensors")
    return tensors


def write_tensors(
    tensors: dict[str, torch.Tensor], file: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file. Raises OSError, also for what safetensors says in its own words."""
    try:
        save_file(tensors, file, metadata=metadata)
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise
        code = int(number[1])
        raise OSError(code, os.strerror(code), str(file)) from error
