"""The formats of `--format`: how each is written, and what vouches for it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from imgcls.jobs.export.hub import prove_folder, write_folder
from imgcls.jobs.export.int8 import INT8
from imgcls.jobs.export.runtimes import runtime_target
from imgcls.jobs.export.weights import prove_weights, write_weights
from imgcls.jobs.export.work import Target
from imgcls.models.export.formats import FORMATS

TARGETS: Mapping[str, Target] = MappingProxyType(
    {
        **{name: runtime_target(name) for name in FORMATS},
        "int8-onnx": INT8,
        "safetensors": Target(
            "model.safetensors",
            lambda work, file, metadata: write_weights(work.subject, file, metadata),
            lambda work, file: prove_weights(work.subject, file),
        ),
        "hf": Target(
            "model.safetensors",
            lambda work, file, _metadata: write_folder(work.subject, file),
            prove_folder,
        ),
    }
)
