"""What is timed: a model and the setting that it runs in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from imgcls.config.model import ModelConfig
from imgcls.engine.checkpoint.folder import load_weights, read_checkpoint
from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.device.macs import count_macs
from imgcls.engine.device.runtime import amp_name
from imgcls.errors import ModelError
from imgcls.models.build import create_model
from imgcls.models.card import (
    Preprocessing,
    model_from_card,
    preprocessing_from_card,
    preprocessing_of,
)
from imgcls.storage.pointers import find_checkpoint


@dataclass(frozen=True, eq=False)
class Subject:
    """A model on the CPU, in evaluation mode.

    name: as it was typed. architecture: timm's name. macs: multiply-accumulates for one picture,
    where they can be counted. checkpoint: where the weights come from; they are random when None.
    """

    name: str
    architecture: str
    model: nn.Module
    preprocessing: Preprocessing
    macs: int | None
    checkpoint: Path | None


@dataclass(frozen=True)
class Setting:
    """How a model runs."""

    backend: str
    compute: ComputeSettings
    batch_size: int

    @property
    def precision(self) -> str:
        """fp32, bf16 or fp16."""
        return amp_name(self.compute.precision).replace("off", "fp32")


def open_subject(name: str, img_size: int | str) -> Subject:
    """The model of a timm name or a checkpoint. Raises ModelError and CheckpointError."""
    path = Path(name)
    if not path.exists():
        config = ModelConfig.model_validate(
            {"name": name, "pretrained": False, "img_size": img_size}
        )
        model: nn.Module = create_model(config).eval()
        preprocessing = preprocessing_of(model, "crop")
        return Subject(
            name, name, model, preprocessing, count_macs(model, preprocessing.input_size), None
        )
    checkpoint = read_checkpoint(find_checkpoint(path))
    if img_size != "auto":
        raise ModelError("--img-size: a checkpoint is timed at its own input size; leave it out")
    model = model_from_card(checkpoint.card)
    load_weights(model, checkpoint)
    preprocessing = preprocessing_from_card(checkpoint.card)
    macs = count_macs(model, preprocessing.input_size)
    architecture = str(checkpoint.card["architecture"])
    return Subject(name, architecture, model.eval(), preprocessing, macs, checkpoint.folder)
