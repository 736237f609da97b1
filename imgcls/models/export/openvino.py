"""OpenVINO's own format: an .xml of the graph and a .bin of the weights."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from imgcls.models.export.onnx import write_onnx
from imgcls.models.export.profiles import Exportable

# the part of a model's rt_info that OpenVINO's own tools keep such facts in
_SECTION = "model_info"


def write_openvino(
    module: Exportable, example: torch.Tensor, path: Path, metadata: Mapping[str, str]
) -> None:
    """Write path and its .bin, in fp32; metadata becomes rt_info of the section model_info."""
    import openvino

    # its own reader of torch's graphs knows fewer operations than its reader of ONNX
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        file = Path(folder) / "model.onnx"
        write_onnx(module, example, file, {})
        model = openvino.Core().read_model(str(file))
        for key, value in metadata.items():
            model.set_rt_info(value, [_SECTION, key])
        openvino.save_model(model, str(path), compress_to_fp16=False)


def open_openvino(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """What the file gives for an input, by OpenVINO on a CPU."""
    import openvino

    compiled = openvino.compile_model(
        openvino.Core().read_model(str(path)),
        "CPU",
        # by itself it takes bf16 where the processor has it
        {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()},
    )

    def run(images: np.ndarray) -> np.ndarray:
        found: np.ndarray = compiled(np.ascontiguousarray(images))[0]
        return found

    return run
