"""Options about optimisation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from imgcls.config.base import Config, Flag


class OptimConfig(Config):
    """Optimizer, learning-rate schedule, length of training."""

    opt: Annotated[str, Flag(aliases=("--optimizer",))] = Field(
        default="adamw",
        description="Any timm optimizer; adamw is the least sensitive to its settings.",
    )
    lr: Annotated[float, Field(gt=0.0)] | Literal["auto"] = Field(
        default="auto",
        description=(
            "Peak learning rate. auto, for adam-like optimizers and 32 pictures an update: 1e-3 "
            "from scratch or for the classifier alone, 4e-4 when fine-tuning a network that has "
            "mostly batch norms, 1e-4 for others. sgd and its kin: 1e-2, fine-tuning 1e-3; lion: "
            "1e-4 and 1e-5. It grows with the square root of the batch, for sgd in proportion."
        ),
    )
    weight_decay: float = Field(
        default=0.05,
        ge=0.0,
        description="Not applied to norms and biases; 0.05 is usual for adamw, 1e-4 for sgd.",
    )
    momentum: float = Field(
        default=0.9, ge=0.0, lt=1.0, description="Momentum of the optimizers that have one."
    )
    epochs: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default=10,
        description=(
            "Passes over the training pictures; 10 fine-tune most small sets, early stopping may "
            "end sooner. auto: as many as make about 1,000 updates, but 5 to 40."
        ),
    )
    max_minutes: float | None = Field(
        default=None,
        gt=0.0,
        description=(
            "Take fewer epochs where that many would take longer than this, by the speed measured "
            "before the first; the schedule ends with the last one. The run keeps the number of "
            "epochs, not the minutes, so it repeats and resumes exactly."
        ),
    )
    warmup_epochs: Annotated[float, Field(ge=0.0)] | Literal["auto"] = Field(
        default="auto",
        description=(
            "Epochs of linear warm-up, which keeps the fresh classifier from shaking the "
            "backbone. auto: one, or a fifth of a shorter training."
        ),
    )
    sched: Literal["cosine", "poly", "tanh", "step", "wsd", "constant"] = Field(
        default="cosine",
        description="timm's learning-rate schedule; cosine needs no further settings.",
    )
    min_lr: float = Field(
        default=0.0, ge=0.0, description="Learning rate at the end of the schedule."
    )
    grad_accum: Annotated[int, Flag(names=("--grad-accum-steps",), aliases=("--grad-accum",))] = (
        Field(
            default=1,
            ge=1,
            description="Batches per update, for batches that do not fit in memory.",
        )
    )
    clip_grad: float | None = Field(
        default=None,
        gt=0.0,
        description="Largest gradient norm; off unless given. 1.0 is usual for ViTs.",
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        description="Each layer's rate as a share of the next one's; 0.65 to 0.8 for ViTs.",
    )
    model_ema: bool | Literal["auto"] = Field(
        default="auto",
        description=(
            "Keep and evaluate a running average of the weights (timm ModelEmaV3). auto: when a "
            "pretrained model is tuned."
        ),
    )
    model_ema_decay: float = Field(
        default=0.998,
        ge=0.0,
        lt=1.0,
        description="Memory of that average; 0.998 spans some 500 updates, with a warm-up before.",
    )
