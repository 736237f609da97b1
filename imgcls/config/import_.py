"""Options of `imgcls import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from imgcls.config.augment import AugmentConfig, Preset
from imgcls.config.base import Config, Flag
from imgcls.config.data import DataConfig
from imgcls.config.reading import ReadingConfig
from imgcls.config.runtime import DeviceField, RuntimeConfig, WorkersField

_DATA, _RUNTIME = DataConfig.model_fields, RuntimeConfig.model_fields


class ImportConfig(Config):
    """Everything `imgcls import` may be told."""

    COMMON = (
        "file",
        "model",
        "classes",
        "data",
        "img_size",
        "mean",
        "std",
        "resize_mode",
        "epochs",
        "batch_size",
        "output",
        "experiment",
    )

    file: Annotated[Path | None, Flag(positional=True)] = Field(
        default=None,
        description=(
            "What another trainer saved: a PyTorch checkpoint or state dict (.pt, .pth, .pth.tar, "
            ".ckpt) or a safetensors file. Nothing in it is run."
        ),
    )
    model: Annotated[str | None, Flag(short="-m")] = Field(
        default=None,
        description="The timm model that it is of; may be left away where the file says so.",
    )
    classes: Annotated[Path | None, Flag(metavar="FILE")] = Field(
        default=None,
        description=(
            "The class names in the order of the model's outputs: a text file with one a line, "
            "JSON (a list, or names and numbers) or CSV. May be left away where the file holds "
            "them."
        ),
    )
    data: str | None = Field(
        default=None,
        description=(
            "The pictures it was trained on, as `imgcls train` takes them: makes a run that is "
            "evaluated on its own splits and, with the optimizer's state, resumed."
        ),
    )
    img_size: Annotated[Annotated[int, Field(ge=8)] | None, Flag(aliases=("--imgsz",))] = Field(
        default=None, description="Side of the input in pixels; by default the model's own."
    )
    resize_mode: Literal["crop", "squash", "pad"] = Field(
        default="crop", description=_DATA["resize_mode"].description
    )
    mean: tuple[float, ...] | None = Field(
        default=None,
        description="What was subtracted from each channel (0 to 1); by default the model's own.",
    )
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(
        default=None,
        description="What each channel was divided by; by default the model's own.",
    )
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = Field(
        default=None, description="How pictures were resized; by default the model's own."
    )
    crop_pct: Annotated[float, Field(gt=0.01, le=1.0)] | None = Field(
        default=None,
        description=(
            "The share of the resized picture's side that is kept (0.875: resized to 256, cropped "
            "to 224); by default the model's own."
        ),
    )
    opt: Annotated[
        Literal["adam", "adamw", "momentum", "sgd"] | None, Flag(aliases=("--optimizer",))
    ] = Field(
        default=None,
        description=(
            "The optimizer whose state it is, where the file leaves that open; sgd is timm's word "
            "for SGD with Nesterov's momentum, momentum for the one without."
        ),
    )
    epochs: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Epochs that the training shall have in all, those behind it too; by default as many "
            "as the file says."
        ),
    )
    lr: Annotated[float, Field(gt=0.0)] | None = Field(
        default=None,
        description="Peak learning rate of the epochs to come; by default as the file says.",
    )
    sched: Literal["cosine", "poly", "tanh", "step", "wsd", "constant"] | None = Field(
        default=None,
        description=(
            "The schedule of the epochs to come. By default cosine where the file has a "
            "CosineAnnealingLR, else constant at the rate that it had reached."
        ),
    )
    batch_size: Annotated[Annotated[int, Field(ge=1)], Flag(short="-b", aliases=("--batch",))] = (
        Field(default=32, description="Pictures a step, of the epochs to come and for validation.")
    )
    augment: Preset | Literal["auto"] = Field(
        default="auto", description=AugmentConfig.model_fields["preset"].description
    )
    val_size: float = Field(default=0.15, ge=0.0, lt=1.0, description=_DATA["val_size"].description)
    test_size: float = Field(
        default=0.15, ge=0.0, lt=1.0, description=_DATA["test_size"].description
    )
    reading: ReadingConfig = Field(default_factory=ReadingConfig)
    seed: int = Field(default=42, ge=0, lt=2**31, description=_RUNTIME["seed"].description)
    device: DeviceField = Field(default="auto", description=_RUNTIME["device"].description)
    workers: WorkersField = Field(default="auto", description=_RUNTIME["workers"].description)
    output: Annotated[Path, Flag(short="-o", aliases=("--project",))] = Field(
        default=Path("outputs"),
        description="Folder in which the run, or without --data the checkpoint, is put.",
    )
    experiment: Annotated[str | None, Flag(aliases=("--name",))] = Field(
        default=None,
        pattern=r"^\.*[^/\\\x00.][^/\\\x00]*$",
        examples=["beetles-1"],
        description="Name of its folder there; by default data or file, model and time.",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> ImportConfig:
        for option, numbers in (("--mean", self.mean), ("--std", self.std)):
            if numbers is not None and not 1 <= len(numbers) <= 4:  # noqa: PLR2004  channels
                raise ValueError(f"{option}: has {len(numbers)} numbers; give one for each channel")
        return self

    @property
    def own_preprocessing(self) -> dict[str, object]:
        """What is said of the input beyond its size and `resize_mode`, in timm's words."""
        said = {n: getattr(self, n) for n in ("mean", "std", "interpolation", "crop_pct")}
        return {name: value for name, value in said.items() if value is not None}
