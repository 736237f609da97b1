"""torch.export's format: a graph that torch runs without the code that it was traced from."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from imgcls.models.export.profiles import Exportable

_METADATA = "metadata.json"


def write_torch_export(
    module: Exportable, example: torch.Tensor, path: Path, metadata: Mapping[str, str]
) -> None:
    """Write the graph; metadata becomes a JSON object, the extra file metadata.json."""
    dimensions = {
        number: torch.export.Dim(name, min=1) for number, name in sorted(module.free.items())
    }
    with torch.no_grad():
        program = torch.export.export(module, (example,), dynamic_shapes=(dimensions,))
    for node in program.graph.nodes:
        # where on this machine the code of each lies
        node.meta.pop("stack_trace", None)
    # a file that torch writes by itself, and that does not fit, ends the process without a word
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={_METADATA: json.dumps(dict(metadata))})
    path.write_bytes(content.getbuffer())


def open_torch_export(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """What the file gives for an input, by torch on a CPU."""
    module = torch.export.load(path).module()

    @torch.inference_mode()
    def run(images: np.ndarray) -> np.ndarray:
        found: np.ndarray = module(torch.from_numpy(images)).numpy()
        return found

    return run
