"""ONNX: the exchange format that most runtimes read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from imgcls.models.export.profiles import Exportable

# what writing takes
WRITERS = ("onnx", "onnxscript")
# what torch's exporter is written in: any other is converted to afterwards. ONNX Runtime reads it
# since 1.14, of early 2023
OPSET = 18
# below the 2 GB that one file of a protobuf may have
_LARGEST_BYTES = 3 * 2**29
_PROGRAMS: WeakKeyDictionary[Exportable, Any] = WeakKeyDictionary()


def to_onnx(model: nn.Module, images: torch.Tensor) -> bytes:
    """The model as an ONNX file, for batches of exactly this size."""
    content: bytes = _program(model, images).model_proto.SerializeToString()
    return content


def write_onnx(
    module: Exportable, example: torch.Tensor, path: Path, metadata: Mapping[str, str]
) -> None:
    """Write the module for inputs of any of its free sizes; metadata becomes metadata_props.

    Of more than 1.5 GB the weights lie beside it, in the file of its name and `.data`.
    """
    program = _program_of(module, example)
    props = program.model.metadata_props
    props.clear()
    props.update(metadata)
    values = program.model.graph.initializers.values()
    large = sum(value.const_value.nbytes for value in values) > _LARGEST_BYTES
    program.save(path, external_data=large)


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


def _program_of(module: Exportable, example: torch.Tensor) -> Any:
    """The module's program, traced once for all formats that are made of it."""
    if module not in _PROGRAMS:
        program = _program(
            module,
            example,
            input_names=[module.input_name],
            output_names=[module.output_name],
            dynamic_shapes=(dict(module.free),),
        )
        for node in program.model.graph:
            # where on this machine the code of each lies
            node.metadata_props.clear()
        _PROGRAMS[module] = program
    return _PROGRAMS[module]
