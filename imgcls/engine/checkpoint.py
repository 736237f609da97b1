"""Checkpoints: folders that are complete or not there, verified whenever they are read.

    step-00001200/
      model.safetensors    the weights to use (the average where there is one), timm's own key names
      config.json          timm / Hugging Face model-folder format
      state.safetensors    the tensors the sidecar names; needed to resume only
      checkpoint.json      the sidecar: format version, facts, state tree, sizes and hashes

Written to a temporary sibling, sidecar last, synced, then renamed. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from imgcls.engine.codec import decode_tree, encode_tree
from imgcls.engine.durable import (
    TEMPORARY_PREFIX,
    pointed_at,
    publish_folder,
    strict_json,
    sync_file,
)
from imgcls.errors import CheckpointError

FORMAT = "imgcls-checkpoint"
FORMAT_VERSION = (1, 0)
WEIGHTS, CARD, STATE, SIDECAR = (
    "model.safetensors",
    "config.json",
    "state.safetensors",
    "checkpoint.json",
)
_LARGEST_JSON_BYTES = 512 * 2**20


@dataclass(frozen=True)
class Snapshot:
    """Everything of one checkpoint, copied to the CPU: training may go on while it is written."""

    weights: dict[str, torch.Tensor]
    card: Mapping[str, Any]
    facts: Mapping[str, Any]
    state: Any
    state_tensors: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint on disk. `facts` are epoch, step, metrics, class_names, config, ..."""

    folder: Path
    card: dict[str, Any]
    facts: dict[str, Any]
    state: Any
    weights_sha256: str

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the model's outputs."""
        return tuple(self.facts["class_names"])

    @property
    def fold(self) -> int:
        """The fold it was trained on."""
        fold = self.facts.get("fold")
        return fold if isinstance(fold, int) else 0


def take_snapshot(
    model: nn.Module,
    card: Mapping[str, Any],
    facts: Mapping[str, Any],
    state: Mapping[str, Any] | None = None,
) -> Snapshot:
    """A copy of the model's weights and of the state, ready to be saved.

    card: the content of timm's config.json. facts: JSON types; `class_names` at least.
    state: the state of a TrainState; without it the checkpoint can be evaluated, not resumed.
    """
    tensors: dict[str, torch.Tensor] = {}
    tree = None if state is None else encode_tree(state, tensors, "state")
    weights = {
        key: value.detach().to("cpu", copy=True).contiguous()
        for key, value in model.state_dict().items()
    }
    return Snapshot(weights, card, facts, tree, tensors)


def save_checkpoint(snapshot: Snapshot, folder: Path) -> Path:
    """Write the snapshot as `folder`, which appears only when complete, and return it.

    Raises OSError when it cannot be written or the name is taken; nothing half-done stays visible.
    """
    temporary = folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        save_file(snapshot.weights, temporary / WEIGHTS, metadata={"format": "pt"})
        (temporary / CARD).write_text(strict_json(snapshot.card, indent=2), encoding="utf-8")
        names = [WEIGHTS, CARD]
        if snapshot.state is not None:
            save_file(snapshot.state_tensors, temporary / STATE)
            names.append(STATE)
        for name in names:
            sync_file(temporary / name)
        sidecar: dict[str, Any] = {
            "format": FORMAT,
            "format_version": list(FORMAT_VERSION),
            "imgcls_version": version("imgcls"),
            "files": {name: _seal(temporary / name) for name in names},
            "facts": dict(snapshot.facts),
            "state": snapshot.state,
        }
        sidecar["sha256"] = _own_hash(sidecar)
        (temporary / SIDECAR).write_text(strict_json(sidecar), encoding="utf-8")
        publish_folder(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint, after its sidecar, hashes and sizes were verified.

    A missing state.safetensors is accepted: it is needed to resume only.
    Raises CheckpointError when anything is missing, damaged, mixed or from a newer format.
    """
    sidecar = _read_sidecar(folder)
    for name, seal in sidecar["files"].items():
        if name == STATE and not (folder / STATE).exists():
            continue
        _verify(folder / name, seal)
    card = _read_json(folder / CARD)
    weights_sha256 = sidecar["files"][WEIGHTS]["sha256"]
    return Checkpoint(folder, card, sidecar["facts"], sidecar["state"], weights_sha256)


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
    weights = _load_tensors(checkpoint.folder / WEIGHTS)
    own = model.state_dict()
    mismatched = [
        f"{key} is {list(weights[key].shape)} in the file and {list(own[key].shape)} in the model"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    missing = [f"{key} is missing in the file" for key in own if key not in weights]
    unexpected = [f"{key} is not in the model" for key in weights if key not in own]
    problems = mismatched + (missing + unexpected if strict else [])
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CheckpointError(f"{checkpoint.folder / WEIGHTS}: {problems[0]}{more}")
    model.load_state_dict(weights, strict=strict)
    model.to(device)
    return checkpoint


def find_checkpoint(path: Path, fold: int | None = None, which: str = "best") -> Path:
    """The checkpoint folder that a checkpoint, fold or run folder stands for.

    which: "best" or "last". Raises CheckpointError when there is none, saying what was looked for.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder")
    pointer = pointed_at(path)
    if pointer is not None:
        return pointer
    if (path / SIDECAR).is_file():
        return path
    folds = sorted(path.glob("fold_*"), key=lambda p: (len(p.name), p.name))
    if folds:
        wanted = path / f"fold_{fold if fold is not None else _only_fold(path, folds)}"
        if not wanted.is_dir():
            raise CheckpointError(
                f"{path}: has no fold {fold}; it has {', '.join(p.name for p in folds)}"
            )
        path = wanted
    link = (path if path.name == "checkpoints" else path / "checkpoints") / which
    target = pointed_at(link)
    if target is None:
        raise CheckpointError(
            f"{path}: no {SIDECAR} and no {which} checkpoint in it; give a checkpoint, fold or "
            "run folder"
        )
    return target


def _only_fold(path: Path, folds: list[Path]) -> str:
    if len(folds) > 1:
        names = ", ".join(fold.name.removeprefix("fold_") for fold in folds)
        raise CheckpointError(
            f"{path}: has several folds; choose one with --fold ({names}) or by its folder; "
            "`imgcls evaluate --fold all` pools them"
        )
    return folds[0].name.removeprefix("fold_")


def _read_sidecar(folder: Path) -> dict[str, Any]:
    file = folder / SIDECAR
    sidecar = _read_json(file)
    if sidecar.get("format") != FORMAT:
        raise CheckpointError(f"{file}: not an imgcls checkpoint")
    _check_format(file, sidecar)
    if sidecar.pop("sha256", None) != _own_hash(sidecar):
        raise CheckpointError(f"{file}: damaged, its content does not match its own hash")
    files, facts = sidecar.get("files"), sidecar.get("facts")
    known = {WEIGHTS, CARD, STATE}
    if not isinstance(files, dict) or not {WEIGHTS, CARD} <= set(files) <= known:
        raise CheckpointError(f"{file}: does not list the files of a checkpoint")
    names = facts.get("class_names") if isinstance(facts, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{file}: does not hold the class names of a checkpoint")
    sidecar.setdefault("state", None)
    return sidecar


def _read_json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST_JSON_BYTES:
            raise CheckpointError(f"{file}: far too large for its kind; use another checkpoint")
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{file.parent}: incomplete checkpoint, {file.name} is missing; use another checkpoint"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: damaged, not readable as JSON; use another checkpoint"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: damaged, not a JSON object; use another checkpoint")
    return content


def _check_format(file: Path, sidecar: dict[str, Any]) -> None:
    number = sidecar.get("format_version")
    if not (isinstance(number, list) and number and all(type(n) is int for n in number)):
        raise CheckpointError(f"{file}: no format version")
    if number[0] > FORMAT_VERSION[0]:
        writer = sidecar.get("imgcls_version")
        raise CheckpointError(
            f"{file}: format {'.'.join(map(str, number))} is newer than this imgcls "
            f"{version('imgcls')} reads ({FORMAT_VERSION[0]}.x); install imgcls>={writer}"
        )


def _own_hash(sidecar: Mapping[str, Any]) -> str:
    text = json.dumps(sidecar, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _seal(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "sha256": _file_hash(file)}


def _verify(file: Path, seal: Any) -> None:
    try:
        actual = _seal(file)
    except FileNotFoundError:
        raise CheckpointError(
            f"{file.parent}: incomplete checkpoint, {file.name} is missing; use another checkpoint"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from error
    if actual != seal:
        size = seal.get("bytes") if isinstance(seal, dict) else None
        what = (
            f"{actual['bytes']} bytes instead of {size}"
            if actual["bytes"] != size
            else "its content is not what was written"
        )
        raise CheckpointError(
            f"{file}: damaged or from another checkpoint ({what}); use another checkpoint"
        )


def _file_hash(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def _load_tensors(file: Path) -> dict[str, torch.Tensor]:
    try:
        tensors: dict[str, torch.Tensor] = load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file}: cannot be read as safetensors ({error})") from error
    return tensors
