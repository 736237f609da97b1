"""Options of `imgcls benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from imgcls.config.base import Config, Flag
from imgcls.config.runtime import Amp, DeviceField, WorkersField

Backend = Literal["torch", "compile", "onnxruntime", "openvino"]


def _each_once(values: Any) -> Any:
    return tuple(dict.fromkeys(values)) if isinstance(values, tuple) else values


def _off_for_fp32(value: Any) -> Any:
    return "off" if value == "fp32" else value


class BenchmarkConfig(Config):
    """Everything `imgcls benchmark` may be told."""

    COMMON = (
        "models",
        "device",
        "batch_size",
        "amp",
        "backend",
        "img_size",
        "train",
        "data",
        "find_best",
        "baseline",
        "plot",
    )

    models: Annotated[tuple[str, ...], Flag(names=("--model",), positional=True)] = Field(
        default=("resnet18",),
        min_length=1,
        description="timm model names, or checkpoint, fold or run folders.",
    )
    device: DeviceField = Field(
        default="auto",
        description="auto takes cuda, then mps, then cpu; a named one must be there.",
    )
    batch_size: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...] | Literal["auto"],
        AfterValidator(_each_once),
        Flag(short="-b", aliases=("--batch",)),
    ] = Field(
        default=(1,),
        description=(
            "Pictures per batch, one size or several; 1 tells the latency, more the throughput. "
            "auto finds the largest that fits."
        ),
    )
    amp: Annotated[
        tuple[Annotated[Amp, BeforeValidator(_off_for_fp32)], ...],
        AfterValidator(_each_once),
        Flag(aliases=("--precision",)),
    ] = Field(
        default=("off",),
        min_length=1,
        description=(
            "Mixed precision, one or several; off is float32, as `evaluate` has it by default. "
            "auto: bf16 (else fp16) on cuda, off elsewhere."
        ),
    )
    backend: Annotated[tuple[Backend, ...], AfterValidator(_each_once)] = Field(
        default=("torch",),
        min_length=1,
        description=(
            "What runs the model, one or several: torch, compile, onnxruntime or openvino (the "
            "last two by the extras onnx and openvino). Their outputs are compared with torch's."
        ),
    )
    compile: bool = Field(default=False, description="Short for --backend compile.")
    channels_last: bool | Literal["auto"] = Field(
        default="auto",
        description=(
            "Memory layout that is faster for most convolutions. auto: yes, as `evaluate` has it."
        ),
    )
    img_size: Annotated[
        Annotated[int, Field(ge=8)] | Literal["auto"], Flag(aliases=("--imgsz",))
    ] = Field(default="auto", description="Side of the input in pixels; auto is the model's own.")
    num_samples: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description=(
            "Pictures to time after the warm-up, rounded up to whole batches; auto times for 3 "
            "seconds, at least 10 batches."
        ),
    )
    train: bool = Field(
        default=False, description="Time training: forward, backward and the optimizer's step."
    )
    data: str | None = Field(
        default=None,
        description=(
            "Time these pictures end to end instead of synthetic batches, and say what limits: "
            "decoding, transforms, the copy or the model."
        ),
    )
    workers: WorkersField = Field(
        default="auto",
        description="With --data: processes that load pictures; auto goes by the cores.",
    )
    find_best: bool = Field(
        default=False,
        description=(
            "Try every backend, layout and precision there is, and print the fastest whose outputs "
            "agree, as the options to paste."
        ),
    )
    tolerance: Annotated[float, Field(gt=0.0)] | Literal["auto"] = Field(
        default="auto",
        description=(
            "How far a logit may be from torch's in fp32, in standard deviations of the logits. "
            "auto: 0.01, which fp32 everywhere keeps; with --train 0.2, which bf16 keeps."
        ),
    )
    baseline: Path | None = Field(
        default=None,
        description="Compare with the --json of an earlier benchmark: is the difference noise?",
    )
    csv: Path | None = Field(default=None, description="Also write the table to this CSV file.")
    plot: Path | None = Field(
        default=None, description="Also draw throughput against latency, to this .png or .svg file."
    )

    force: bool = Field(
        default=False, description="Let --csv and --plot replace files that imgcls did not write."
    )

    @model_validator(mode="after")
    def _options_agree(self) -> BenchmarkConfig:
        for name in self.models:
            if "," in name and not Path(name).exists():
                apart = " ".join(filter(None, name.split(",")))
                raise ValueError(f"{name}: models are typed with spaces between them: {apart}")
        if self.data is not None and self.batch_size == "auto":
            raise ValueError("--data: needs a --batch-size in numbers")
        if self.find_best and (self.data is not None or self.compile or self.backend != ("torch",)):
            raise ValueError(
                "--find-best: chooses the backend itself, on synthetic batches; leave out --data, "
                "--backend and --compile"
            )
        if self.train and set(self.backends) - {"torch", "compile"}:
            raise ValueError("--train: onnxruntime and openvino do not train; leave them out")
        if self.plot is not None and self.plot.suffix.lower() not in (".png", ".svg"):
            raise ValueError(f"--plot: {self.plot} is neither a .png nor a .svg file")
        return self

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Those of `backend`, and compile where `compile` is set."""
        if not self.compile:
            return self.backend
        return ("compile",) if self.backend == ("torch",) else (*self.backend, "compile")
