"""The formats that a model can be turned into, and what each needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from imgcls.models.export.onnx import to_onnx


@dataclass(frozen=True)
class Format:
    """A format of models.

    convert: makes it of a model in evaluation mode and an example, float32 [B, C, H, W], for
    batches of exactly that size; exporters raise errors of their own. modules: what has to be
    installed for it.
    """

    convert: Callable[[nn.Module, torch.Tensor], Any]
    modules: tuple[str, ...]


FORMATS: Mapping[str, Format] = MappingProxyType(
    {"onnx": Format(to_onnx, modules=("onnx", "onnxscript"))}
)
