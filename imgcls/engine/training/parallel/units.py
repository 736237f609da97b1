"""Which layers of a model are divided, and brought together again, as one."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

_LISTS = (nn.Sequential, nn.ModuleList)


def units(model: nn.Module) -> list[nn.Module]:
    """The model's blocks: the members of its lists of layers, without single layers.

    Where the blocks within a member hold more than half of its parameters, as those of a stage do,
    they are taken instead of it. What is in no block belongs to the model itself.
    """
    found: list[nn.Module] = []
    for child in model.children():
        inner = units(child)
        if 2 * _size(inner) > _size([child]):
            found += inner
        elif isinstance(model, _LISTS) and any(child.children()) and _size([child]):
            found.append(child)
    return found


def _size(modules: Iterable[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
