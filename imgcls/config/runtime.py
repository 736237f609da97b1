"""Options about the machine, its precision, and where results go."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from imgcls.config.base import Config, Flag

Amp = Literal["auto", "off", "bf16", "fp16"]
Workers = Annotated[int, Field(ge=0)] | Literal["auto"]
Devices = Annotated[int, Field(ge=1)] | Literal["all"]
WorkersField = Annotated[Workers, Flag(short="-j")]

_DEVICE = r"^(auto|cpu|cuda(:\d+)?|mps)$"


def _as_torch_says(value: object) -> object:
    """The value, unless it is what other tools call a device. Raises ValueError."""
    name = str(value).lower()
    meant = {"gpu": "cuda", "nvidia": "cuda", "metal": "mps", "m1": "mps"}.get(name)
    if name != value and re.fullmatch(_DEVICE, name):
        meant = name
    if name.isdecimal():
        meant = f"cuda:{name}"
    if meant is not None:
        raise ValueError(f"did you mean {meant}?")
    return value


DeviceField = Annotated[
    str,
    BeforeValidator(_as_torch_says),
    Field(pattern=_DEVICE, examples=["auto, cpu, cuda, cuda:1 or mps"]),
    Flag(metavar="auto|cpu|cuda|cuda:1|mps"),
]

TrackerName = Literal["tensorboard", "mlflow", "wandb", "trackio"]
Log = tuple[TrackerName, ...] | Literal["none"]


class RuntimeConfig(Config):
    """The machine, its precision, and where results go."""

    device: DeviceField = Field(
        default="auto",
        description="auto takes cuda, then mps, then cpu; a named one must be there.",
    )
    amp: Amp = Field(
        default="auto",
        description=(
            "Mixed precision in training. auto: bf16 (else fp16) on cuda; on a CPU bf16 where a "
            "few seconds of measurement find it faster for this model; else off, as in short runs."
        ),
    )
    workers: WorkersField = Field(
        default="auto",
        description="Processes that load pictures; auto goes by the cores. Never changes results.",
    )
    seed: int = Field(
        default=42,
        ge=0,
        lt=2**31,
        description="Splits, initial weights and every random choice follow from it.",
    )
    channels_last: bool | Literal["auto"] = Field(
        default="auto",
        description=(
            "Memory layout that is faster for most convolutions. auto: yes, but on a CPU whichever "
            "is measured faster for this model; yes in short runs."
        ),
    )
    grad_checkpointing: bool = Field(
        default=False,
        description=(
            "Compute activations again in the backward pass instead of keeping them: less memory, "
            "about a third more time."
        ),
    )
    compile: bool = Field(
        default=False, description="torch.compile the model: slow to start, faster on long runs."
    )
    devices: Devices | None = Field(
        default=None,
        description=(
            "Train on so many GPUs of this machine, or all; on a CPU, in so many processes. The "
            "batch is divided among them, so the results are those of one, but for rounding."
        ),
    )
    parallel_folds: bool = Field(
        default=False,
        description=(
            "With --folds and --devices: train folds side by side, one on each device, in place of "
            "all devices on each fold."
        ),
    )
    grad_compression: Literal["none", "bf16"] = Field(
        default="none",
        description=(
            "How gradients travel between several processes: bf16 halves what a slow network has "
            "to carry, and rounds them."
        ),
    )
    shard: bool = Field(
        default=False,
        description=(
            "Divide weights, gradients and optimizer state among the processes too, for a model "
            "whose training does not fit one device; slower. Checkpoints are as without."
        ),
    )
    deterministic: bool = Field(
        default=False,
        description="Ask torch for deterministic kernels on cuda, at some cost; CPU runs are so.",
    )
    output: Annotated[Path, Flag(short="-o", aliases=("--project",))] = Field(
        default=Path("outputs"), description="Folder in which runs are kept."
    )
    experiment: Annotated[str | None, Flag(aliases=("--name",))] = Field(
        default=None,
        pattern=r"^\.*[^/\\\x00.][^/\\\x00]*$",
        examples=["beetles-1"],
        description="Name of the run's folder; by default data, model and time.",
    )
    log: Log = Field(
        default="none",
        description=(
            "Also log to experiment trackers, each an extra of its own name: options, history.csv, "
            "the pages and pictures of evaluations. One that fails never stops a training."
        ),
    )
