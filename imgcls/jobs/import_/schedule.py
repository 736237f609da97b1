"""The schedule that another training followed, as far as `train` has the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgcls.jobs.import_.optimizer import Optimizer, UnmatchedError, as_torch_writes_it

_EPOCHS = ("num_epochs", "epochs", "max_epochs", "n_epochs")
# whose state has these, beside what all schedulers keep
_KINDS = {
    "T_0": "CosineAnnealingWarmRestarts",
    "T_max": "CosineAnnealingLR",
    "step_size": "StepLR",
    "milestones": "MultiStepLR or SequentialLR",
    "num_bad_epochs": "ReduceLROnPlateau",
    "total_steps": "OneCycleLR",
    "lr_lambdas": "LambdaLR",
    "_schedulers": "SequentialLR",
    "gamma": "ExponentialLR",
}


def planned_epochs(settings: Mapping[str, Any], scheduler: Mapping[str, Any] | None) -> int | None:
    """How many epochs the training was to have in all; None where the file does not say."""
    told = [settings.get(name) for name in _EPOCHS]
    told += [(scheduler or {}).get("T_max")]
    return next((number for number in told if type(number) is int and number > 0), None)


@as_torch_writes_it()
def schedule_of(
    scheduler: Mapping[str, Any] | None,
    optimizer: Optimizer,
    settings: Mapping[str, Any],
    epochs_done: int,
) -> tuple[dict[str, Any], str]:
    """The options of `train` for the epochs to come, and what is said about them.

    settings: what the trainer was told, timm's args. Raises UnmatchedError where it had come to a
    rate of 0, and what comes then is not known.
    """
    if scheduler is None and settings.get("sched") == "cosine" and "warmup_epochs" in settings:
        options = {
            "sched": "cosine",
            "lr": optimizer.peak_lr,
            "min_lr": float(settings.get("min_lr", 0.0)),
            "warmup_epochs": float(settings["warmup_epochs"]),
        }
        return options, "cosine as its args say, but set every update, not every epoch"
    scheduler = scheduler or {}
    is_cosine = {"T_max", "eta_min", "base_lrs"} <= scheduler.keys()
    bases = list(scheduler.get("base_lrs") or ())
    if is_cosine and scheduler.get("last_epoch") == epochs_done and len(set(bases)) == 1:
        options = {
            "sched": "cosine",
            "lr": float(bases[0]),
            "min_lr": float(scheduler["eta_min"]),
            "warmup_epochs": 0,
        }
        return options, "cosine as its CosineAnnealingLR, but set every update, not every epoch"
    kind = next((kind for key, kind in _KINDS.items() if key in scheduler), "schedule")
    if not optimizer.lr > 0:
        raise UnmatchedError(
            f"its {kind} had come to a rate of {optimizer.lr:g}; say by --lr and --sched at which "
            "it shall go on"
        )
    options = {"sched": "constant", "lr": optimizer.lr, "min_lr": 0.0, "warmup_epochs": 0}
    if not scheduler:
        return options, f"constant at {optimizer.lr:.3g}: the file has no schedule"
    return options, (
        f"constant at {optimizer.lr:.3g}, the rate it had reached: its {kind} is none of train's "
        "(--sched and --lr choose another)"
    )
