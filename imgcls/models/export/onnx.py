"""ONNX: the exchange format that most runtimes read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from imgcls.models.export.profiles import Exportable

# what writing takes
WRITERS = ("onnx", "onnxscript")
# what torch's exporter writes by itself; a later one is converted to afterwards, and an earlier one
# too, without need: ONNX Runtime reads this one since 1.14, of early 2023
OPSET = 18
# of a protobuf, which is in one piece; what is above lies beside it
_LARGEST_BYTES = 2**31 - 2**24


def to_onnx(model: nn.Module, images: torch.Tensor) -> bytes:
    """The model as an ONNX file, for batches of exactly this size."""
    content: bytes = _program(model, images).model_proto.SerializeToString()
    return content


def write_onnx(
    module: Exportable, example: torch.Tensor, path: Path, metadata: Mapping[str, str]
) -> None:
    """Write the module for inputs of any of its free sizes; metadata becomes metadata_props.

    Of more than 2 GB the weights lie beside it, in the file of its name and `.data`.
    """
    program = _program(
        module,
        example,
        input_names=[module.input_name],
        output_names=[module.output_name],
        dynamic_shapes=(dict(module.free),),
    )
    program.model.metadata_props.update(metadata)
    large = sum(p.numel() * p.element_size() for p in module.state_dict().values())
    program.save(path, external_data=large > _LARGEST_BYTES)


def open_onnx(path: Path, *, spins: bool = True) -> Callable[[np.ndarray], np.ndarray]:
    """What the file gives for an input, by ONNX Runtime on a CPU.

    spins: its threads wait for one another on their cores, which another session may need.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spins)))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: np.ndarray) -> np.ndarray:
        found: np.ndarray = session.run(None, {name: images})[0]
        return found

    return run


def _program(model: nn.Module, example: torch.Tensor, **options: Any) -> Any:
    with torch.no_grad():
        return torch.onnx.export(
            model, (example,), dynamo=True, verbose=False, opset_version=OPSET, **options
        )
