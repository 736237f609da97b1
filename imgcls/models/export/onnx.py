"""ONNX: the exchange format that most runtimes read."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def to_onnx(model: nn.Module, images: torch.Tensor) -> bytes:
    """The model as an ONNX file, for batches of exactly this size."""
    program: Any = torch.onnx.export(model, (images,), dynamo=True, verbose=False)
    content: bytes = program.model_proto.SerializeToString()
    return content
