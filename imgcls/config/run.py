"""Options about choosing the best epoch and saving, and the whole of `train` and `resume`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from imgcls.config.augment import AugmentConfig
from imgcls.config.base import Config, Flag
from imgcls.config.data import DataConfig
from imgcls.config.model import AUTO, ModelConfig
from imgcls.config.optim import OptimConfig
from imgcls.config.reading import OnBadImage, ReadingConfig
from imgcls.config.recipe import RecipeConfig
from imgcls.config.runtime import Amp, DeviceField, Devices, Log, RuntimeConfig, Workers
from imgcls.metrics.registry import MONITORS

# the checker of types reads no table
if TYPE_CHECKING:
    Monitor = str
else:
    Monitor = Literal[MONITORS]


class EarlyStoppingConfig(Config):
    """Which epoch is best, and when to stop waiting for a better one."""

    metric: Annotated[Monitor | Literal["auto"], Flag(names=("--eval-metric",))] = Field(
        default="auto",
        description=(
            "Chooses the best epoch and stops early; val_loss wants to fall, the others to rise. "
            "auto: val_balanced_accuracy where the classes are unbalanced, since accuracy hardly "
            "sees a rare class; else val_accuracy. Between epochs within one standard error of the "
            "highest of either, the lower loss decides."
        ),
    )
    patience: int = Field(
        default=10,
        ge=0,
        description="Epochs without improvement before stopping; 0 never stops early.",
    )


class CheckpointConfig(Config):
    """What is saved and how long it is kept."""

    save: Literal["epoch", "best"] = Field(
        default="epoch",
        description="Save after every epoch, so that each can be resumed, or only the best.",
    )
    keep: str = Field(
        default="last:1",
        pattern=r"^(all|last:[1-9]\d{0,8})$",
        examples=["last:3 or all"],
        description="Checkpoints to keep beside the best one.",
    )
    save_every_steps: int = Field(
        default=0, ge=0, description="Also save inside an epoch, every so many updates; 0 is off."
    )
    save_every_minutes: float = Field(
        default=10.0,
        ge=0.0,
        description=(
            "Also save inside an epoch after so many minutes; 0 is off. It bounds what a "
            "crash costs."
        ),
    )


class TrainConfig(Config):
    """Everything `imgcls train` may be told."""

    COMMON: ClassVar[tuple[str, ...]] = (
        "data.source",
        "model.name",
        "model.weights",
        "model.img_size",
        "recipe.preset",
        "recipe.imbalance",
        "augment.preset",
        "optim.epochs",
        "optim.lr",
        "data.batch_size",
        "data.folds",
        "runtime.device",
        "runtime.output",
    )

    data: DataConfig = Field(default_factory=DataConfig)
    reading: ReadingConfig = Field(default_factory=ReadingConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    recipe: RecipeConfig = Field(default_factory=RecipeConfig)
    optim: OptimConfig = Field(default_factory=OptimConfig)
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    early_stopping: EarlyStoppingConfig = Field(default_factory=EarlyStoppingConfig)
    checkpoint: CheckpointConfig = Field(default_factory=CheckpointConfig)
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig)

    @property
    def may_choose(self) -> bool:
        """True for `--preset best` where no model is named: it takes that of `--model auto`."""
        return self.recipe.preset == "best" and "name" not in self.model.model_fields_set

    @property
    def is_ensemble(self) -> bool:
        """True where what is trained is averaged: several models, or the folds of one."""
        return self.model.ensemble_models is not None or self.recipe.preset == "best"

    @model_validator(mode="after")
    def _groups_agree(self) -> TrainConfig:
        if self.data.folds == 1:
            raise ValueError(
                "data.folds (--folds): 1 fold has nothing to validate on; give 0 or at least 2"
            )
        if self.data.folds and self.data.fold != "all" and self.data.fold >= self.data.folds:
            raise ValueError(
                f"data.fold (--fold): {self.data.fold} is out of range; with {self.data.folds} "
                f"folds it is 0 to {self.data.folds - 1}, or all"
            )
        if self.augment.auto_augment and self.model.in_chans in (2, 4):
            raise ValueError(
                f"augment.auto_augment (--aa): its changes of colour do not know transparency, the "
                f"last channel of --in-chans {self.model.in_chans}; leave it out"
            )
        if self.data.val_size + self.data.test_size >= 1.0:
            raise ValueError(
                f"data.val_size (--val-size): {self.data.val_size} and data.test_size "
                f"(--test-size): {self.data.test_size} leave nothing to train on; together they "
                "must stay below 1"
            )
        warmup, epochs = self.optim.warmup_epochs, self.optim.epochs
        if warmup != "auto" and epochs != "auto" and warmup > epochs:
            raise ValueError(
                f"optim.warmup_epochs (--warmup-epochs): {self.optim.warmup_epochs} is longer than "
                f"optim.epochs (--epochs): {self.optim.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _models_and_folds_go_with_preset(self) -> TrainConfig:
        name, option = self.model.name, self.model.choosing
        if option is not None and name != AUTO and not self.may_choose:
            raise ValueError(
                f"{option} is for choosing a model, and --model {name} is chosen; leave it out, or "
                f"give --model {AUTO}"
            )
        if self.recipe.preset != "best":
            return self
        if self.data.fold != "all":
            raise ValueError(
                f"data.fold (--fold): {self.data.fold} is one of the folds that --preset best "
                "averages; leave it out"
            )
        if self.data.folds == 0 and "folds" in self.data.model_fields_set:
            raise ValueError(
                "data.folds (--folds): 0 leaves --preset best nothing to average; leave it out, or "
                "give at least 2"
            )
        return self


class ResumeConfig(Config):
    """Everything `imgcls resume` may be told."""

    run: Annotated[Path | None, Flag(positional=True)] = Field(
        default=None, description="The run's folder; by default the newest unfinished one."
    )
    data: str | None = Field(
        default=None,
        description=(
            "Where the run's pictures are now, if they have moved; each is found by its name and "
            "content, or by its content alone."
        ),
    )
    root: Path | None = Field(
        default=None, description="With a table: the folder that its paths start from now."
    )
    device: DeviceField | None = Field(
        default=None, description="Go on with another device than the run began with."
    )
    devices: Devices | None = Field(
        default=None,
        description=(
            "Go on with so many GPUs, or all; on a CPU, in so many processes. By default with as "
            "many as the run began with."
        ),
    )
    shard: bool | None = Field(
        default=None,
        description=(
            "Divide weights, gradients and optimizer state among the processes from here on, or no "
            "longer. By default as the run began."
        ),
    )
    workers: Annotated[Workers | None, Flag(short="-j")] = Field(
        default=None, description="Processes that load pictures; never changes results."
    )
    epochs: int | None = Field(
        default=None,
        ge=1,
        description=(
            "Train to this many epochs in all, also a finished run; the schedule goes on as if "
            "the run had been begun with them."
        ),
    )
    amp: Amp | None = Field(
        default=None,
        description=(
            "Another precision from here on, as for a device that cannot do the run's; the result "
            "is no longer exact."
        ),
    )
    cache: Literal["none", "ram", "disk", "auto"] | None = Field(
        default=None,
        description=(
            "Keep decoded pictures elsewhere than the run did; begun or ended here, training crops "
            "come from other pixels, and the result is no longer exact."
        ),
    )
    on_bad_image: OnBadImage | None = Field(
        default=None,
        description="From here on, stop at a picture that cannot be read, or leave it out.",
    )
    batch_size: Annotated[int | None, Flag(short="-b", aliases=("--batch",))] = Field(
        default=None,
        ge=1,
        description="Another batch size from here on; the result is no longer exact.",
    )
    log: Log | None = Field(
        default=None, description="Log to these trackers from here on; they get earlier epochs too."
    )
    force: bool = Field(
        default=False,
        description="Go on although the data or the config are not what the run began with.",
    )
    output: Annotated[Path, Flag(short="-o", aliases=("--project",))] = Field(
        default=Path("outputs"), description="Where to look for the newest unfinished run."
    )
