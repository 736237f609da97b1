"""Options of `imgcls benchmark`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imgcls.config.base import Config, Flag
from imgcls.config.runtime import Amp, DeviceField


class BenchmarkConfig(Config):
    """Everything `imgcls benchmark` may be told."""

    model: Annotated[str, Flag(positional=True)] = Field(
        "resnet18", description="A timm model name, or a checkpoint, fold or run folder."
    )
    device: DeviceField = Field(
        "auto", description="auto takes cuda, then mps, then cpu; a named one must be there."
    )
    batch_size: Annotated[int, Flag(short="-b", aliases=("--batch",))] = Field(
        1, ge=1, description="Pictures per batch; 1 tells the latency, more the throughput."
    )
    num_samples: int = Field(
        64, ge=1, description="Pictures to time, after the warm-up, rounded up to whole batches."
    )
    amp: Amp = Field("off", description="Mixed precision while timing.")
    channels_last: bool = Field(False, description="Time with the channels-last memory layout.")
    compile: bool = Field(False, description="Time the model after torch.compile.")
    img_size: Annotated[
        Annotated[int, Field(ge=8)] | Literal["auto"], Flag(aliases=("--imgsz",))
    ] = Field("auto", description="Side of the input in pixels; auto is the model's own.")
