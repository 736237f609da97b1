"""A timm or Hugging Face model folder that imgcls did not train. Loads no torch.

folder/
  config.json          architecture, num_classes, label_names or id2label, pretrained_cfg
  model.safetensors    or pytorch_model.bin
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from imgcls.errors import CheckpointError
from imgcls.storage.sidecar import CARD, SIDECAR, STATE, WEIGHTS, are_names, read_json

_PICKLED = "pytorch_model.bin"
# arguments that change training alone
_OF_TRAINING = {"drop_rate", "drop_path_rate", "proj_drop_rate", "attn_drop_rate", "pretrained"}


def is_model_folder(path: Path) -> bool:
    """True for a folder with a config.json and weights that is no checkpoint, nor a part of one."""
    if (path / SIDECAR).exists() or (path / STATE).exists():
        return False
    return (path / CARD).is_file() and weights_of(path).is_file()


def weights_of(folder: Path) -> Path:
    """The file with the weights of a checkpoint or model folder."""
    plain = folder / WEIGHTS
    return folder / _PICKLED if not plain.exists() and (folder / _PICKLED).exists() else plain


def read_card(folder: Path) -> dict[str, Any]:
    """The folder's config.json as a checkpoint has it, with label_names for each output.

    Classes without names are called by their numbers. Raises CheckpointError where it is no timm
    model's.
    """
    card = read_json(folder / CARD)
    if "architecture" not in card:
        kind = card.get("model_type") or ", ".join(map(str, card.get("architectures") or ()))
        of = f" of a {kind}" if kind else ""
        raise CheckpointError(
            f"{folder / CARD}: not a timm model's{of}: it names no timm `architecture`"
        )
    # timm kept these facts at the top before 0.9
    facts = card.get("pretrained_cfg", card)
    if not isinstance(facts, dict):
        raise CheckpointError(f"{folder / CARD}: its pretrained_cfg is not usable")
    outputs = card.get("num_classes", facts.get("num_classes"))
    names = _names(card, facts)
    if names is None and type(outputs) is int and outputs > 0:
        # each output has weights, so that a number alone cannot ask for terabytes of names
        if outputs > weights_of(folder).stat().st_size:
            raise CheckpointError(
                f"{folder / CARD}: num_classes is {outputs}, more than its weights have outputs"
            )
        names = [str(number) for number in range(outputs)]
    if names is not None:
        names = _told_apart(names)
        if not are_names(names):
            raise CheckpointError(f"{folder / CARD}: its classes are not all different texts")
    arguments = card.get("model_args") or {}
    if isinstance(arguments, dict):
        arguments = {k: v for k, v in arguments.items() if k not in _OF_TRAINING}
    return {
        "architecture": card["architecture"],
        "num_classes": len(names) if names is not None and outputs is None else outputs,
        "label_names": names,
        "pretrained_cfg": facts,
        "model_args": arguments,
    }


def _told_apart(names: list[str]) -> list[str]:
    """The names, with its number behind each that comes twice, as ImageNet's crane does."""
    counts = Counter(names)
    return [n if counts[n] == 1 else f"{n} ({number})" for number, n in enumerate(names)]


def _names(card: dict[str, Any], facts: dict[str, Any]) -> list[str] | None:
    names = card.get("label_names") or facts.get("label_names")
    if isinstance(names, list):
        return [str(name) for name in names]
    by_number = card.get("id2label") or card.get("label_names")
    if isinstance(by_number, dict):
        try:
            return [str(by_number[key]) for key in sorted(by_number, key=int)]
        except ValueError:
            return None
    return None
