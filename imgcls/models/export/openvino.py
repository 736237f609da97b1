"""OpenVINO's own representation of a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from imgcls.models.export.onnx import to_onnx


def to_openvino(model: nn.Module, images: torch.Tensor) -> Any:
    """The model as an `openvino.Model`, for batches of exactly this size."""
    import openvino

    # its own reader of torch's graphs knows fewer operations than its reader of ONNX
    return openvino.Core().read_model(to_onnx(model, images))
