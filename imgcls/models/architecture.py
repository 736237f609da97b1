"""What an architecture is made of: its rates of dropout, and which norms."""

from __future__ import annotations

import functools
import warnings
from typing import Any

import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

_HALF = 0.5


def own_rates(name: str) -> tuple[float, float]:
    """(dropout before the classifier, stochastic depth) of a timm architecture's own defaults.

    timm keeps them in places of its own for each family. So the rates of all layers as they are by
    default are compared with those that a rate of 0, and one of a half, would give.
    """
    default = _layer_rates(name)
    return _own(name, "drop_rate", default), _own(name, "drop_path_rate", default)


def _own(name: str, option: str, default: dict[str, float]) -> float:
    if not any(default.values()):
        return 0.0
    try:
        none = _layer_rates(name, **{option: 0.0})
        differing = [key for key, rate in default.items() if rate != none.get(key, 0.0)]
        if not differing:
            return 0.0
        key = max(differing, key=default.__getitem__)
        return round(default[key] * _HALF / _layer_rates(name, **{option: _HALF})[key], 6)
    except TypeError:  # the architecture does not know the option
        return 0.0


@functools.cache
def takes_rate(name: str, option: str) -> bool:
    """Whether timm's `drop_rate` or `drop_path_rate` arrives in any layer of an architecture.

    Some take the option and put it nowhere. Raises TypeError for one that does not know it.
    """
    return _layer_rates(name, **{option: 0.0}) != _layer_rates(name, **{option: _HALF})


@functools.cache
def goes_by_batch_norms(name: str) -> bool:
    """Whether most norm layers of a timm architecture go by means and variances over pictures.

    Some transformers have a few of them, in front of or between layers that go by each picture.
    """
    modules = list(_build(name, {}).modules())
    by_batch = sum(isinstance(module, _BatchNorm) for module in modules)
    return by_batch > sum(_is_of_each_picture(module) for module in modules)


def _is_of_each_picture(module: nn.Module) -> bool:
    if isinstance(module, nn.LayerNorm | nn.GroupNorm):
        return True
    is_layer = next(module.children(), None) is None
    return is_layer and "Norm" in type(module).__name__ and not isinstance(module, _BatchNorm)


def _layer_rates(name: str, **options: float) -> dict[str, float]:
    """The rate of each dropout layer, and the one that the model keeps for its classifier."""
    model = _build(name, options)
    rates = {"": float(getattr(model, "drop_rate", 0.0) or 0.0)}
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):  # noqa: SLF001  their common base
            rates[path] = module.p
        elif hasattr(module, "drop_prob"):
            rates[path] = float(module.drop_prob or 0.0)
    return rates


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            with torch.device("meta"):  # which allocates nothing
                model: nn.Module = timm.create_model(name, pretrained=False, **options)
        except (NotImplementedError, RuntimeError):  # its constructor reads a tensor's values
            model = timm.create_model(name, pretrained=False, **options)
    return model
