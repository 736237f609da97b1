"""Options about random changes to training pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from imgcls.config.base import Config, Flag

Preset = Literal["none", "light", "medium", "heavy"]


@dataclass(frozen=True)
class Augmentation:
    """The random changes in force; the fields are AugmentConfig's, with nothing left `auto`."""

    preset: Preset
    scale: float
    hflip: float
    vflip: float
    color_jitter: float
    auto_augment: str | None
    reprob: float
    mixup: float
    cutmix: float
    smoothing: float

    @property
    def mixes(self) -> bool:
        """True when batches are mixed in pairs, which needs an even number of pictures in each."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def keeps_pictures(self) -> bool:
        """True when a training picture is prepared as an evaluation picture is."""
        changes = (self.hflip, self.vflip, self.color_jitter, self.auto_augment)
        return self.scale == 1 and not any(changes)

    @property
    def is_none(self) -> bool:
        """True when a picture is the same in every epoch, so that its features are too."""
        return self.keeps_pictures and not self.mixes and self.reprob == 0


# rand-n1-mstd101 draws one operation at a strength anywhere up to m: TrivialAugment
# (Mueller & Hutter 2021, arXiv:2103.10158) in timm's words
PRESETS = {
    "none": Augmentation("none", 1.0, 0.0, 0.0, 0.0, None, 0.0, 0.0, 0.0, 0.0),
    "light": Augmentation("light", 0.35, 0.5, 0.0, 0.2, None, 0.0, 0.0, 0.0, 0.0),
    "medium": Augmentation(
        "medium", 0.35, 0.5, 0.0, 0.3, "rand-m10-n1-mstd101-inc1", 0.1, 0.0, 0.0, 0.0
    ),
    "heavy": Augmentation(
        "heavy", 0.2, 0.5, 0.0, 0.4, "rand-m9-mstd0.5-inc1", 0.25, 0.2, 1.0, 0.1
    ),
}  # fmt: skip


class AugmentConfig(Config):
    """Random changes to training pictures: a preset, and in timm's terms what differs from it."""

    preset: Annotated[Preset | Literal["auto"], Flag(names=("--augment",))] = Field(
        default="auto",
        description=(
            "How much training pictures are changed. none: as in evaluation. light: crops, "
            "mirroring, colours. medium: TrivialAugment and some erasing too. heavy: RandAugment, "
            "erasing, mixup, cutmix and label smoothing, for long trainings. auto: none for the "
            "classifier alone, light up to 5,000 training pictures, else medium."
        ),
    )
    scale: Annotated[float, Field(gt=0.0, le=1.0)] | Literal["auto"] = Field(
        default="auto",
        description=(
            "Smallest share of a picture's area that a random crop keeps. auto: 0.35, 0.2 in "
            "heavy (timm's 0.08 often cuts the object away in small data sets), 0.8 for digits."
        ),
    )
    hflip: Annotated[float, Field(ge=0.0, le=1.0)] | Literal["auto"] = Field(
        default="auto",
        description="Chance of mirroring left-right. auto: 0.5, and 0 for digits.",
    )
    vflip: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Chance of mirroring up-down; useful for views from above.",
    )
    color_jitter: Annotated[float, Field(ge=0.0, le=1.0)] | Literal["auto"] = Field(
        default="auto",
        description=(
            "Strength of brightness, contrast and saturation changes. auto: 0.2 in light, 0.3 in "
            "medium, 0.4 in heavy."
        ),
    )
    auto_augment: Annotated[str | None, Flag(names=("--aa",))] = Field(
        default=None,
        description=(
            "timm's AutoAugment policy; without one, that of the preset: TrivialAugment in medium, "
            "RandAugment in heavy."
        ),
        examples=["rand-m9-mstd0.5"],
    )
    reprob: Annotated[float, Field(ge=0.0, le=1.0)] | Literal["auto"] = Field(
        default="auto",
        description="Chance of random erasing. auto: 0.1 in medium, 0.25 in heavy, else 0.",
    )
    mixup: Annotated[float, Field(ge=0.0)] | Literal["auto"] = Field(
        default="auto", description="Mixup alpha; 0 is off. auto: 0.2 in heavy, else 0."
    )
    cutmix: Annotated[float, Field(ge=0.0)] | Literal["auto"] = Field(
        default="auto", description="CutMix alpha; 0 is off. auto: 1 in heavy, else 0."
    )
    smoothing: Annotated[
        Annotated[float, Field(ge=0.0, lt=1.0)] | Literal["auto"],
        Flag(aliases=("--label-smoothing",)),
    ] = Field(
        default="auto",
        description=(
            "Label smoothing; 0 keeps probabilities honest, 0.1 suits many classes. auto: 0.1 in "
            "heavy, else 0."
        ),
    )
