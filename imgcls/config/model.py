"""Options about the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from imgcls.config.base import Config, Flag

# the name that stands for the best of several models
AUTO = "auto"


class ModelConfig(Config):
    """Any timm architecture with a new classifier for the data's classes."""

    name: Annotated[str, Flag(names=("--model",), short="-m")] = Field(
        default="resnet18",
        description=(
            "Any timm model name (`imgcls list-models`); resnet18 trains in minutes on a laptop "
            "and is hard to get wrong. auto: the best of --models for these pictures, by "
            "cross-validation on frozen features."
        ),
    )
    candidates: Annotated[tuple[str, ...] | None, Flag(names=("--models",), metavar="NAME,...")] = (
        Field(
            default=None,
            min_length=1,
            description=(
                "With --model auto: the models to choose from. By default those in the folder of "
                "--weights, else a short list of small models under permissive licences."
            ),
            examples=["tf_efficientnet_lite0,resnet18"],
        )
    )
    max_params: Annotated[float | None, Flag(metavar="MILLIONS")] = Field(
        default=None,
        gt=0.0,
        description="With --model auto: leave out models of more million parameters.",
    )
    max_latency_ms: float | None = Field(
        default=None,
        gt=0.0,
        description=(
            "With --model auto: leave out models that need longer for one picture here, by the "
            "median of timed single ones."
        ),
    )
    pretrained: bool | Literal["auto"] = Field(
        default="auto",
        description=(
            "Start from weights trained on ImageNet, from timm's hub. auto: yes for pictures, no "
            "for the embedded digits and where --weights is given."
        ),
    )
    weights: Path | None = Field(
        default=None,
        description=(
            "Start from this file instead of the hub: a safetensors file, a PyTorch state dict, "
            "or a checkpoint folder. The classifier is always new. With --model auto: a folder of "
            "files named as their models, NAME.safetensors, or of such folders."
        ),
    )
    ensemble_models: int | None = Field(
        default=None,
        ge=2,
        description=(
            "With --model auto: train so many models, the best of those that are compared, each a "
            "run of its own on the same split, and evaluate the average of their probabilities."
        ),
    )
    num_classes: Annotated[int | None, Flag(exposed=False)] = Field(
        default=None,
        ge=1,
        description="Outputs of the classifier; taken from the data when not given.",
    )
    img_size: Annotated[
        Annotated[int, Field(ge=8)] | Literal["auto"], Flag(aliases=("--imgsz",))
    ] = Field(
        default="auto",
        description="Side of the input in pixels; auto takes what the weights were trained at.",
    )
    in_chans: int = Field(
        default=3,
        ge=1,
        le=4,
        description=(
            "Channels of the input: 1 grey, 3 RGB; 2 and 4 keep transparency as the last one. The "
            "weights of the first layer are adapted."
        ),
    )
    dropout: Annotated[
        Annotated[float, Field(ge=0.0, lt=1.0)] | Literal["auto"], Flag(aliases=("--drop",))
    ] = Field(
        default="auto",
        description=(
            "Dropout in front of the classifier; 0.2 helps tiny data sets. auto: the "
            "architecture's own, which is 0 for most (0.2 for rexnet)."
        ),
    )
    drop_path_rate: Annotated[
        Annotated[float, Field(ge=0.0, lt=1.0)] | Literal["auto"], Flag(aliases=("--drop-path",))
    ] = Field(
        default="auto",
        description=(
            "Stochastic depth; 0.1 to 0.3 is usual for long trainings of transformers. auto: the "
            "architecture's own, which is 0 for most (0.1 for swin)."
        ),
    )
    freeze_backbone: Annotated[bool, Flag(exposed=False)] = Field(
        default=False,
        description="Leave the classifier as the only trainable part; --tune head does it.",
    )

    @property
    def choosing(self) -> str | None:
        """The option that is given and means nothing where no model is chosen."""
        given = {
            "--models": self.candidates,
            "--max-params": self.max_params,
            "--max-latency-ms": self.max_latency_ms,
            "--ensemble-models": self.ensemble_models,
        }
        return next((name for name, value in given.items() if value is not None), None)

    @model_validator(mode="after")
    def _enough_are_named_once(self) -> ModelConfig:
        models = self.candidates or ()
        if self.ensemble_models is not None and 0 < len(models) < self.ensemble_models:
            raise ValueError(
                f"--ensemble-models {self.ensemble_models}: --models names {len(models)} only"
            )
        twice = [name for name in models if models.count(name) > 1]
        if twice:
            raise ValueError(f"--models: {twice[0]} is named twice")
        return self

    @model_validator(mode="after")
    def _one_start_only(self) -> ModelConfig:
        if self.weights is not None and self.pretrained is True:
            raise ValueError(
                "--weights and --pretrained both say what to start from; give one of them"
            )
        return self
