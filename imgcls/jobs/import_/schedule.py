"""The schedule that another training followed, as far as `train` has the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgcls.jobs.import_.optimizer import Optimizer

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


def schedule_of(
    scheduler: Mapping[str, Any] | None, optimizer: Optimizer, epochs_done: int
) -> tuple[dict[str, Any], str]:
    """The options of `train` for the epochs to come, and what is said about them."""
    scheduler = scheduler or {}
    is_cosine = {"T_max", "eta_min", "base_lrs"} <= scheduler.keys()
    per_epoch = scheduler.get("last_epoch") == epochs_done
    bases = scheduler.get("base_lrs")
    if is_cosine and per_epoch and isinstance(bases, list) and len(set(bases)) == 1:
        options = {
            "sched": "cosine",
            "lr": float(bases[0]),
            "min_lr": float(scheduler["eta_min"]),
            "warmup_epochs": 0,
        }
        return options, "cosine as its CosineAnnealingLR, but set every update, not every epoch"
    options = {"sched": "constant", "lr": optimizer.lr, "min_lr": 0.0, "warmup_epochs": 0}
    if not scheduler:
        return options, f"constant at {optimizer.lr:.3g}: the file has no schedule"
    kind = next((kind for key, kind in _KINDS.items() if key in scheduler), "schedule")
    return options, (
        f"constant at {optimizer.lr:.3g}, the rate it had reached: its {kind} is none of train's "
        "(--sched and --lr choose another)"
    )
