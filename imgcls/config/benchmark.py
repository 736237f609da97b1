"""Options of `imgcls benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from imgcls.config.base import Config, Flag
from imgcls.config.runtime import DeviceField

_PRECISION = r"(auto|off|fp32|bf16|fp16)"
_BACKEND = r"(torch|compile|onnxruntime|openvino)"


class BenchmarkConfig(Config):
    """Everything `imgcls benchmark` may be told. Lists are texts with commas, as they are typed."""

    models: Annotated[tuple[str, ...], Flag(names=("--model",), positional=True)] = Field(
        ("resnet18",),
        min_length=1,
        description="timm model names, or checkpoint, fold or run folders.",
    )
    device: DeviceField = Field(
        "auto", description="auto takes cuda, then mps, then cpu; a named one must be there."
    )
    batch_size: Annotated[str, Flag(short="-b", aliases=("--batch",))] = Field(
        "1",
        pattern=r"^(auto|[1-9]\d*(,[1-9]\d*)*)$",
        coerce_numbers_to_str=True,
        examples=["1,8,64 (each >= 1) or auto"],
        description=(
            "Pictures per batch, one size or several; 1 tells the latency, more the throughput. "
            "auto finds the largest that fits."
        ),
    )
    precision: Annotated[str, Flag(names=("--precision", "--amp"))] = Field(
        "fp32",
        pattern=rf"^{_PRECISION}(,{_PRECISION})*$",
        examples=["fp32,bf16,fp16 or auto"],
        description=(
            "fp32 (or off), and bf16 or fp16 by autocast; several with commas. auto is what "
            "training takes on the device."
        ),
    )
    backend: str = Field(
        "torch",
        pattern=rf"^{_BACKEND}(,{_BACKEND})*$",
        examples=["torch,compile,onnxruntime,openvino"],
        description=(
            "What runs the model, one or several: torch, compile, onnxruntime or openvino (the "
            "last two by the extras onnx and openvino). Their outputs are compared with torch's."
        ),
    )
    compile: bool = Field(False, description="Short for --backend compile.")
    channels_last: bool = Field(False, description="Time with the channels-last memory layout.")
    img_size: Annotated[
        Annotated[int, Field(ge=8)] | Literal["auto"], Flag(aliases=("--imgsz",))
    ] = Field("auto", description="Side of the input in pixels; auto is the model's own.")
    num_samples: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description=(
            "Pictures to time after the warm-up, rounded up to whole batches; auto times for 3 "
            "seconds, at least 10 batches."
        ),
    )
    train: bool = Field(
        False, description="Time training: forward, backward and the optimizer's step."
    )
    data: str | None = Field(
        None,
        description=(
            "Time these pictures end to end instead of synthetic batches, and say what limits: "
            "decoding, transforms, the copy or the model."
        ),
    )
    workers: Annotated[Annotated[int, Field(ge=0)] | Literal["auto"], Flag(short="-j")] = Field(
        "auto", description="With --data: processes that load pictures; auto goes by the cores."
    )
    find_best: bool = Field(
        False,
        description=(
            "Try every backend, layout and precision there is, and print the fastest whose outputs "
            "agree, as the options to paste."
        ),
    )
    tolerance: Annotated[float, Field(gt=0.0)] | Literal["auto"] = Field(
        "auto",
        description=(
            "How far a logit may be from torch's in fp32, in standard deviations of the logits. "
            "auto: 0.01, which fp32 everywhere keeps; with --train 0.2, which bf16 keeps."
        ),
    )
    baseline: Path | None = Field(
        None,
        description="Compare with the --json of an earlier benchmark: is the difference noise?",
    )
    csv: Path | None = Field(None, description="Also write the table to this CSV file.")
    plot: Path | None = Field(
        None, description="Also draw throughput against latency, to this .png or .svg file."
    )

    force: bool = Field(
        False, description="Let --csv and --plot replace files that imgcls did not write."
    )

    @model_validator(mode="after")
    def _options_agree(self) -> BenchmarkConfig:
        for name in self.models:
            if "," in name and not Path(name).exists():
                apart = " ".join(filter(None, name.split(",")))
                raise ValueError(f"{name}: models are typed with spaces between them: {apart}")
        if self.data is not None and self.batch_size == "auto":
            raise ValueError("--data: needs a --batch-size in numbers")
        if self.find_best and (self.data is not None or self.compile or self.backend != "torch"):
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
    def batch_sizes(self) -> tuple[int, ...] | None:
        """The sizes of `batch_size`; None for auto."""
        if self.batch_size == "auto":
            return None
        return tuple(dict.fromkeys(int(size) for size in self.batch_size.split(",")))

    @property
    def precisions(self) -> tuple[str, ...]:
        """The words of `precision`, fp32 called off as in `train` and `evaluate`."""
        words = self.precision.replace("fp32", "off").split(",")
        return tuple(dict.fromkeys(words))

    @property
    def backends(self) -> tuple[str, ...]:
        """The words of `backend`, and compile where `compile` is set."""
        words = self.backend.split(",")
        if self.compile:
            words = ["compile"] if words == ["torch"] else [*words, "compile"]
        return tuple(dict.fromkeys(words))
