"""The formats that a model can be exported to, and what each needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from imgcls.models.export.onnx import WRITERS, open_onnx, write_onnx
from imgcls.models.export.openvino import open_openvino, write_openvino
from imgcls.models.export.profiles import Exportable
from imgcls.models.export.torch_export import open_torch_export, write_torch_export


@dataclass(frozen=True)
class Format:
    """A format of models.

    extra: of imgcls, which brings the `modules` that have to be installed; "" for none. suffix: of
    its main file. write: puts an exportable module, followed along the example, at the path, with
    what else is needed in files of the same stem beside it; exporters raise errors of their own.
    open: what the file gives for a batch, in a runtime of its own.
    """

    extra: str
    modules: tuple[str, ...]
    suffix: str
    write: Callable[[Exportable, torch.Tensor, Path, Mapping[str, str]], None]
    open: Callable[[Path], Callable[[np.ndarray], np.ndarray]]


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "onnx": Format("onnx", (*WRITERS, "onnxruntime"), ".onnx", write_onnx, open_onnx),
        "openvino": Format(
            "openvino", (*WRITERS, "openvino"), ".xml", write_openvino, open_openvino
        ),
        "torch-export": Format("", (), ".pt2", write_torch_export, open_torch_export),
    }
)
