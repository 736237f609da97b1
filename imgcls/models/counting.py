"""How many parameters a model has, asked from outside or of the model itself."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from torch import nn

if TYPE_CHECKING:

    class CountedModule(nn.Module):
        """A timm model, of timm's own class, that also answers these two; for type checkers."""

        def get_num_total_params(self) -> int:
            """All its parameters."""
            raise NotImplementedError

        def get_num_trainable_params(self) -> int:
            """Those that training changes as it is now."""
            raise NotImplementedError


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, total) numbers of parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trainable in sizes if trainable), sum(n for n, _ in sizes)


def with_counts(model: nn.Module) -> CountedModule:
    """The model itself, which from here on has get_num_total_params and its sibling.

    They are attributes of this one model: its class, its keys and its state stay as they are, and
    its copies have their own.
    """
    for name, number in _NUMBERS.items():
        setattr(model, name, _Count(model, number))
    return cast("CountedModule", model)


class _Count:
    """One number of a model, when it is called.

    Holds the model weakly: a model in a circle would keep its memory until Python collects it.
    """

    def __init__(self, model: nn.Module, number: int) -> None:
        self._model = weakref.ref(model)
        self._number = number

    def __call__(self) -> int:
        return count_parameters(self._of())[self._number]

    def __deepcopy__(self, memo: dict[int, Any]) -> _Count:
        """Of the model's copy, where the model is what is copied."""
        model = self._of()
        return _Count(memo.get(id(model), model), self._number)

    def __reduce__(self) -> tuple[Callable[..., _Count], tuple[nn.Module, int]]:
        return _Count, (self._of(), self._number)

    def _of(self) -> nn.Module:
        model = self._model()
        if model is None:
            raise ReferenceError("the model whose parameters are asked for is gone")
        return model


# the places in what count_parameters gives
_NUMBERS = {"get_num_total_params": 1, "get_num_trainable_params": 0}
