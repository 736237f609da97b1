"""The pictures that a config or a checkpoint speaks of, as a table, decoded for its model."""

from __future__ import annotations

from imgcls.config.reading import ReadingConfig
from imgcls.config.run import TrainConfig
from imgcls.data.decode import DecodeSettings
from imgcls.data.open import find_source, open_source
from imgcls.data.source import SampleTable
from imgcls.engine.checkpoint import Checkpoint
from imgcls.errors import CheckpointError

# what other tables of the same hand have in common with the one that was trained on
_INHERITED = ("path_col", "label_col", "root", "max_image_pixels")


def training_table(config: TrainConfig) -> SampleTable:
    """The pictures to train on. Raises DataError, and ConfigError for a colour that is none."""
    return open_source(
        config.data.source, config.reading, decode_settings(config, config.reading.max_image_pixels)
    )


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
        names = tuple(n for n in _INHERITED if n in find_source(data).options | {_INHERITED[-1]})
    before = {name: getattr(config.reading, name) for name in names}
    now = {name: value for name, value in reading if value is not None}
    reading = ReadingConfig(**{**before, **now})
    table = open_source(
        config.data.source if data is None else data,
        reading,
        decode_settings(config, reading.max_image_pixels),
    )
    return table.relabel(checkpoint.class_names)


def checkpoint_config(checkpoint: Checkpoint) -> TrainConfig:
    """The config that the checkpoint was trained by. Raises CheckpointError."""
    try:
        return TrainConfig.model_validate(checkpoint.facts["config"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.folder}: the sidecar's config is not usable") from error


def decode_settings(config: TrainConfig, max_pixels: int | None) -> DecodeSettings:
    """How the model's pictures are decoded; max_pixels None is the usual limit."""
    usual = DecodeSettings()
    return DecodeSettings(
        channels=config.model.in_chans,
        background=config.data.background,
        max_pixels=usual.max_pixels if max_pixels is None else max_pixels,
    )
