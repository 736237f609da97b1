"""The config that a checkpoint was trained by, and how its pictures are decoded."""

from __future__ import annotations

from imgcls.config.reading import ReadingConfig
from imgcls.config.run import TrainConfig
from imgcls.data.open import checkpoint_decoding, decoding_as_said
from imgcls.data.pixels.decode import DecodeSettings
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.errors import CheckpointError
from imgcls.models.card import check_card, preprocessing_from_card

# what says how a picture is decoded
OF_PIXELS = {"max_image_pixels", "bit_depth"}


def checkpoint_config(checkpoint: Checkpoint) -> TrainConfig:
    """The config that the checkpoint was trained by. Raises CheckpointError.

    For one that imgcls did not train: the defaults, with its model's channels.
    """
    if checkpoint.sidecar.config is None:
        check_card(checkpoint.card)  # before its class names meet any pictures
        channels = preprocessing_from_card(checkpoint.card).input_size[0]
        return TrainConfig.model_validate({"model": {"in_chans": channels}})
    try:
        return TrainConfig.model_validate(checkpoint.sidecar.config)
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.folder}: the sidecar's config is not usable") from error


def decoding_of(checkpoint: Checkpoint, reading: ReadingConfig | None = None) -> DecodeSettings:
    """How the checkpoint's pictures are decoded, but for what `reading` says of them now."""
    config = checkpoint_config(checkpoint)
    said = {**config.reading.given, **(reading.given if reading else {})}
    pixels = ReadingConfig(**{name: said[name] for name in OF_PIXELS & said.keys()})
    return decoding_as_said(checkpoint_decoding(config), pixels)
