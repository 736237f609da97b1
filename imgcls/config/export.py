"""Options of `imgcls export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from imgcls.config.base import Config, Flag

ExportFormat = Literal["onnx", "openvino", "torch-export", "int8-onnx", "safetensors", "hf"]
Profile = Literal["picture", "tensor"]


class ExportConfig(Config):
    """Everything `imgcls export` may be told."""

    checkpoint: Annotated[Path | None, Flag(positional=True)] = Field(
        default=None,
        description="A checkpoint, fold or run folder; by default the best of the newest run.",
    )
    format: tuple[ExportFormat, ...] = Field(
        default=("onnx",),
        min_length=1,
        description=(
            "What to write, one or several: onnx and openvino (need the extra of their name), "
            "torch-export (a .pt2 program for torch), int8-onnx (smaller and faster on a CPU; what "
            "it costs in accuracy is measured), safetensors (the weights alone, with "
            "their labels), or hf (a folder for Hugging Face with a model card)."
        ),
    )
    profile: Profile = Field(
        default="picture",
        description=(
            "What the file takes and gives. picture: uint8 [B, h, w, 3] of any size, to "
            "probabilities; resizing, cropping and normalising are inside. tensor: float32 [B, 3, "
            "H, W], prepared outside, to logits."
        ),
    )
    output: Annotated[Path | None, Flag(short="-o", metavar="DIR")] = Field(
        default=None,
        description=(
            "Write a folder for each format into this one; by default exports/ in the fold's "
            "folder."
        ),
    )
    max_drop: Annotated[float, Flag(metavar="POINTS")] = Field(
        default=1.0,
        ge=0,
        le=100,
        description=(
            "int8-onnx: refuse a file whose accuracy on val is lower than in float32 by more "
            "points than this, beyond doubt: the whole 95% interval is above."
        ),
    )
    force: bool = Field(default=False, description="Replace exports that are there already.")
