"""timm's transforms up to uint8; normalising happens on the device, on whole batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from PIL import Image
from timm.data import create_transform

from imgcls.errors import ConfigError

# use_prefetcher=True ends in uint8 pixels (MaybePILToTensor) and leaves normalising to the device
Transform = Callable[[Image.Image], torch.Tensor]


class PreprocessingFacts(Protocol):
    """What a model wants of its pictures, in timm's words."""

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Of the input, in 0 to 1."""

    @property
    def interpolation(self) -> str:
        """The resampling filter."""

    @property
    def crop_pct(self) -> float:
        """Share of the resized picture that the crop keeps."""

    @property
    def crop_mode(self) -> str:
        """center, squash or border."""


def eval_transform(facts: PreprocessingFacts) -> Transform:
    """RGB picture to uint8 [3, H, W], the way the model is evaluated."""
    transform: Transform = create_transform(
        facts.input_size,
        is_training=False,
        use_prefetcher=True,
        interpolation=facts.interpolation,
        mean=facts.mean,
        crop_pct=facts.crop_pct,
        crop_mode=facts.crop_mode,
    )
    return transform


def train_transform(
    facts: PreprocessingFacts,
    *,
    scale: float,
    hflip: float,
    vflip: float,
    color_jitter: float,
    auto_augment: str | None,
) -> Transform:
    """RGB picture to uint8 [3, H, W] with random crop, mirroring and colours.

    Raises ConfigError for a policy that timm does not know.
    """
    try:
        transform: Transform = create_transform(
            facts.input_size,
            is_training=True,
            use_prefetcher=True,
            interpolation=facts.interpolation,
            mean=facts.mean,
            scale=(scale, 1.0),
            hflip=hflip,
            vflip=vflip,
            color_jitter=color_jitter or None,
            auto_augment=auto_augment,
        )
    except (AssertionError, KeyError, ValueError, IndexError) as error:
        raise ConfigError(
            f"augment.auto_augment (--aa): timm has no policy {auto_augment!r}; try "
            "rand-m9-mstd0.5, augmix-m3 or original"
        ) from error
    return transform
