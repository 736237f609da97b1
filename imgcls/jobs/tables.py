"""The pictures that a config or a checkpoint speaks of, as a table, decoded for its model."""

from __future__ import annotations

from dataclasses import replace

from imgcls.config.reading import ReadingConfig
from imgcls.config.run import TrainConfig
from imgcls.data.decode import DecodeSettings
from imgcls.data.open import find_source, open_source
from imgcls.data.source import SampleTable
from imgcls.engine.checkpoint import Checkpoint
from imgcls.errors import CheckpointError
from imgcls.models.card import preprocessing_from_card

# what other tables of the same hand have in common with the one that was trained on
_INHERITED = ("path_col", "label_col", "root", "max_image_pixels", "bit_depth")
# those that say how a picture is decoded
OF_PIXELS = {"max_image_pixels", "bit_depth"}


def training_table(config: TrainConfig, *, begun: bool = False) -> SampleTable:
    """The pictures to train on; begun: by a run that decodes them as it did before.

    Raises DataError, and ConfigError for a colour that is none.
    """
    decoding = (checkpoint_decoding if begun else decode_settings)(config)
    return open_source(config.data.source, config.reading, decoding)


def checkpoint_table(
    checkpoint: Checkpoint, data: str | None, reading: ReadingConfig
) -> SampleTable:
    """The pictures of `data`, or of the run, with labels in the model's order of classes.

    They are decoded as the model's training pictures were; what `reading` leaves open is as the run
    had it. Raises DataError, and CheckpointError when the checkpoint's config is not usable.
    """
    config = checkpoint_config(checkpoint)
    if data is None:
        names = tuple(ReadingConfig.model_fields)
    else:
        names = tuple(n for n in _INHERITED if n in find_source(data).options | OF_PIXELS)
    before = {name: getattr(config.reading, name) for name in names}
    reading = ReadingConfig(**{**before, **reading.given})
    table = open_source(
        config.data.source if data is None else data, reading, checkpoint_decoding(config)
    )
    return table.relabel(checkpoint.class_names)


def checkpoint_config(checkpoint: Checkpoint) -> TrainConfig:
    """The config that the checkpoint was trained by. Raises CheckpointError.

    For one that imgcls did not train: the defaults, with its model's channels.
    """
    if "config" not in checkpoint.facts:
        channels = preprocessing_from_card(checkpoint.card).input_size[0]
        return TrainConfig.model_validate({"model": {"in_chans": channels}})
    try:
        return TrainConfig.model_validate(checkpoint.facts["config"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.folder}: the sidecar's config is not usable") from error


def checkpoint_decoding(config: TrainConfig) -> DecodeSettings:
    """How the pictures of a checkpoint with this config are decoded."""
    measured = "bit_depth" in config.reading.given
    return replace(decode_settings(config), declared=measured)


def decode_settings(config: TrainConfig) -> DecodeSettings:
    """How the model's pictures are decoded, but for what `reading` says of them."""
    return DecodeSettings(channels=config.model.in_chans, background=config.data.background)
