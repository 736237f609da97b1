"""Resolves `auto` augmentation, within what suits the pictures' source."""

from __future__ import annotations

from dataclasses import replace

from imgcls.config.augment import PRESETS, Augmentation, AugmentConfig, Preset
from imgcls.data.table import SourceDefaults

# beyond it, pictures are many enough that stronger changes pay within the usual epochs
_MOST_FOR_LIGHT = 5_000


def augmentation(
    config: AugmentConfig,
    source: SourceDefaults,
    pictures: int,
    *,
    channels: int = 3,
    head_only: bool,
) -> Augmentation:
    """The random changes for so many training pictures, within what suits their source."""
    preset: Preset
    if config.preset != "auto":
        preset = config.preset
    elif head_only:
        preset = "none"
    else:
        preset = "light" if pictures <= _MOST_FOR_LIGHT else "medium"
    base = PRESETS[preset]
    base = replace(
        base,
        scale=max(base.scale, source.crop_scale),
        hflip=min(base.hflip, source.hflip),
        # policies mirror, and know nothing of transparency
        auto_augment=base.auto_augment if source.hflip and channels in (1, 3) else None,
    )
    given = {
        name: value
        for name in AugmentConfig.model_fields
        if name != "preset" and (value := getattr(config, name)) not in ("auto", None)
    }
    return replace(base, **given)
