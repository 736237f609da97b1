"""The weights alone, as one safetensors file that says in its header what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from imgcls.engine.checkpoint.folder import write_tensors
from imgcls.errors import ExportError
from imgcls.jobs.export.subject import Subject, as_texts
from imgcls.results.export import WeightsProof


def write_weights(subject: Subject, file: Path, metadata: Mapping[str, Any]) -> None:
    """Write the weights under timm's own key names. Raises OSError."""
    # by "format" other programs know whose tensors these are
    write_tensors(weights_of_model(subject), file, {**as_texts(metadata), "format": "pt"})


def prove_weights(subject: Subject, file: Path) -> WeightsProof:
    """That each tensor is in the file as it is in the model. Raises ExportError that names one."""
    expected = weights_of_model(subject)
    with safe_open(file, framework="pt") as opened:
        found = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  no mapping
    if found.keys() != expected.keys():
        differing = sorted(found.keys() ^ expected.keys())
        raise ExportError(f"{file.name}: {differing[0]} is not in both the file and the model")
    for key, tensor in expected.items():
        if found[key].dtype != tensor.dtype or not _same_bytes(found[key], tensor):
            raise ExportError(f"{file.name}: {key} was not read back as it was written")
    size = sum(tensor.numel() * tensor.element_size() for tensor in found.values())
    return WeightsProof(tensors=len(found), tensor_bytes=size, equal=True)


def weights_of_model(subject: Subject) -> dict[str, torch.Tensor]:
    """The model's tensors under timm's own key names."""
    state = subject.scorer.model.state_dict()
    return {key: value.detach().contiguous() for key, value in state.items()}


def _same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    # equal to the bit: nan is nan, and -0 is not 0
    parts = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return one.shape == other.shape and torch.equal(*parts)
