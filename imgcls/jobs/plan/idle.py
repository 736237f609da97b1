"""Options that were given and change nothing in this training, to be said with the plan."""

from __future__ import annotations

from collections.abc import Iterator

from imgcls.config.augment import PRESETS, AugmentConfig
from imgcls.config.base import option_fields
from imgcls.config.run import TrainConfig
from imgcls.engine.training.optim import takes_momentum
from imgcls.jobs.plan.pace import Pace
from imgcls.jobs.plan.recipe import Recipe
from imgcls.models.architecture import own_rates

# all that has to do with epochs, which a classifier that is only fitted has not
_OF_EPOCHS = (
    *(
        f"optim.{name}"
        for name in (
            "opt", "lr", "weight_decay", "momentum", "epochs", "max_minutes", "warmup_epochs",
            "sched", "min_lr", "grad_accum", "clip_grad", "layer_decay", "model_ema",
            "model_ema_decay",
        )
    ),
    "early_stopping.patience",
    "checkpoint.save_every_steps",
    "recipe.unfreeze_epochs",
    "model.dropout",
    *(f"augment.{name}" for name in ("mixup", "cutmix", "reprob", "smoothing")),
)  # fmt: skip
_OF_VIEWS = tuple(
    f"augment.{name}"
    for name in ("scale", "hflip", "vflip", "color_jitter", "auto_augment", "preset")
)
# what changes nothing of a picture
_NO_CHANGE = {
    f"augment.{name}": getattr(PRESETS["none"], name) for name in AugmentConfig.model_fields
}
_OF_THE_BACKBONE = (
    "recipe.unfreeze_epochs",
    "optim.layer_decay",
    "model.drop_path_rate",
    "runtime.grad_checkpointing",
)


def idle_options(recipe: Recipe, config: TrainConfig) -> dict[str, str]:
    """The paths of options that change nothing under this recipe, each with the reason."""
    optim = config.optim
    idle: dict[str, str] = {}
    if recipe.head_only:
        idle.update(dict.fromkeys(_OF_THE_BACKBONE, "the classifier alone is trained"))
    if recipe.from_features:
        idle["data.cache"] = "each picture is read once, for its features"
    if recipe.fits_only:
        idle.update(dict.fromkeys(_OF_EPOCHS, "the classifier is fitted, without epochs"))
        if recipe.feature_views == 1:
            why = "features are of pictures as in evaluation (see --feature-views)"
            idle.update(dict.fromkeys(_OF_VIEWS, why))
        return idle
    if optim.sched in ("constant", "step"):
        idle["optim.min_lr"] = f"--sched {optim.sched} does not fall to it"
    if not recipe.model_ema:
        idle["optim.model_ema_decay"] = "no average of the weights is kept"
    if not takes_momentum(optim.opt):
        idle["optim.momentum"] = f"{optim.opt} has none"
    return idle


def notes_on_idle(recipe: Recipe, config: TrainConfig, usual: Pace) -> Iterator[str]:
    """A line for each reason why options are without effect that were given.

    usual: what `auto` gives here. A run that is repeated by its config has that without anybody's
    asking, and no line tells of it.
    """
    dropout, drop_path_rate = own_rates(config.model.name)
    own = {
        **_NO_CHANGE,
        "optim.lr": usual.lr,
        "optim.warmup_epochs": usual.warmup_epochs,
        "optim.model_ema": False,
        "model.dropout": dropout,
        "model.drop_path_rate": drop_path_rate,
        "data.cache": "none",
    }
    idle = idle_options(recipe, config)
    flags: dict[str, list[str]] = {}
    for option in option_fields(TrainConfig):
        if option.path not in idle:
            continue
        value = getattr(getattr(config, option.group), option.name)
        if value in ("auto", None, option.field.default, own.get(option.path)):
            continue
        text = option.flag_names[0] if value is True else f"{option.flag_names[0]} {value}"
        flags.setdefault(idle[option.path], []).append(text)
    for why, given in flags.items():
        have = "has" if len(given) == 1 else "have"
        yield f"{', '.join(given)} {have} no effect: {why}"
