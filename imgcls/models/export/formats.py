"""The formats that a model can be turned into, and what each needs."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from imgcls.errors import ConfigError
from imgcls.models.export.onnx import to_onnx
from imgcls.models.export.openvino import to_openvino


@dataclass(frozen=True)
class Format:
    """A format of models.

    convert: makes it of a model in evaluation mode and an example, float32 [B, C, H, W], for
    batches of exactly that size; exporters raise errors of their own. modules: what has to be
    installed for it, by the extra of this name.
    """

    convert: Callable[[nn.Module, torch.Tensor], Any]
    extra: str
    modules: tuple[str, ...]


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "onnx": Format(to_onnx, "onnx", ("onnx", "onnxscript")),
        "openvino": Format(to_openvino, "openvino", ("openvino", "onnx", "onnxscript")),
    }
)


def require_format(name: str, option: str, *also: str) -> None:
    """Raise ConfigError for a format, or further modules, of which something is not installed."""
    found = FORMATS[name]
    modules = (*also, *found.modules)
    if missing := [module for module in modules if importlib.util.find_spec(module) is None]:
        raise ConfigError(
            f'{option}: {missing[0]} is not installed; pip install "imgcls[{found.extra}]"'
        )
