"""What a search varies: the default space, and its parameters as Optuna draws them."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from imgcls.config.base import option_fields, takes_whole_numbers_only
from imgcls.config.run import TrainConfig
from imgcls.config.tune import Dimension, Range, TuneConfig, read_space
from imgcls.errors import ConfigError

if TYPE_CHECKING:
    import optuna

_WHOLE = frozenset(o.path for o in option_fields(TrainConfig) if takes_whole_numbers_only(o.field))


def search_space(config: TuneConfig, lr: float, idle: Collection[str] = ()) -> dict[str, Any]:
    """The space as `search.space` would say it: the user's own, or the default one.

    lr: the learning rate that the search starts from. The default space leaves out what the user
    set, and what is `idle`: without effect. Raises ConfigError when nothing is left.
    """
    if config.search.space is not None:
        return config.search.space
    space = {
        path: dimension
        for path, dimension in _default_space(lr).items()
        if not config.set_by_user(path) and path not in idle
    }
    if not space:
        raise ConfigError(
            f"nothing to search over: {', '.join(_default_space(lr))} are all set or without "
            "effect; leave one to the search that has one, or name others in search.space"
        )
    return space


def _default_space(lr: float) -> dict[str, Any]:
    return {
        # a decade to each side: what most decides, and what a rule of thumb is least sure of
        "optim.lr": {"low": lr / 10, "high": lr * 10, "log": True},
        "optim.weight_decay": {"low": 1e-4, "high": 0.5, "log": True},
        "model.dropout": {"low": 0.0, "high": 0.5, "step": 0.1},
        "augment.smoothing": [0.0, 0.1],
        "augment.mixup": [0.0, 0.2],
    }


def combinations(space: dict[str, Any]) -> float:
    """How many different trials the space has; inf for a continuous one."""
    return math.prod(_size(path, dimension) for path, dimension in read_space(space).items())


def _size(path: str, dimension: Dimension) -> float:
    if not isinstance(dimension, Range):
        return len(dimension)
    step = 1.0 if path in _WHOLE and dimension.step is None else dimension.step
    return math.inf if step is None else round((dimension.high - dimension.low) / step) + 1


def suggest(trial: optuna.Trial, space: dict[str, Any]) -> dict[str, Any]:
    """One value for each parameter of the space, by option name."""
    return {path: _suggest(trial, path, d) for path, d in read_space(space).items()}


def _suggest(trial: optuna.Trial, path: str, dimension: Dimension) -> Any:
    if not isinstance(dimension, Range):
        return trial.suggest_categorical(path, dimension)
    low, high, step = dimension.low, dimension.high, dimension.step
    if path in _WHOLE:
        return trial.suggest_int(
            path, int(low), int(high), step=1 if step is None else int(step), log=dimension.log
        )
    return trial.suggest_float(path, low, high, step=step, log=dimension.log)


def starting_point(space: dict[str, Any], resolved: TrainConfig) -> dict[str, Any] | None:
    """The parameters that stand for the config as it is, or None when the space leaves it out."""
    values: dict[str, Any] = {}
    for path, dimension in read_space(space).items():
        group, _, name = path.partition(".")
        value = getattr(getattr(resolved, group), name)
        if isinstance(dimension, Range):
            inside = isinstance(value, (int, float)) and dimension.holds(value)
        else:
            inside = value in dimension
        if not inside:
            return None
        values[path] = value
    return values
