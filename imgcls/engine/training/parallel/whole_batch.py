"""A model's forward pass over a part of a batch, as it would be over the whole.

Masks of dropout and stochastic depth are drawn for the whole batch, and the part's rows taken from
them, so that a picture has the same ones however many processes share the batch. Batch norms that
are trained take mean and variance of all processes' pictures. Both for any layer that goes by the
functions of torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.utils.checkpoint
from torch.nn import functional as F  # noqa: N812  torch's own name for it
from torch.overrides import TorchFunctionMode

from imgcls.engine.training.parallel.batch_norm import SumTensor, batch_norm_of_all

_DROPOUTS = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)

# pictures that a part without any is computed with, and that count for nothing; mixup wants pairs
BLANK = 2


@contextlib.contextmanager
def part_of_batch(
    rows: np.ndarray | None, whole_size: int | None, sum_tensor: SumTensor | None
) -> Iterator[None]:
    """A block in which a model is given the rows, int64 [B], of a batch of `whole_size` pictures.

    rows: None for the whole batch. sum_tensor: the sum over all processes, in place; None where
    norm layers go by this part alone.
    """
    if rows is None and sum_tensor is None:
        yield
        return
    mode = _PartOfBatch(rows, whole_size or 0, sum_tensor)
    with mode, _entered_again(mode):
        yield


@contextlib.contextmanager
def _entered_again(mode: TorchFunctionMode) -> Iterator[None]:
    """Let the mode hold too for what gradient checkpointing computes again in the backward pass.

    There torch leaves all modes.
    """
    plain = torch.utils.checkpoint.checkpoint
    torch.utils.checkpoint.checkpoint = partial(
        plain, context_fn=lambda: (contextlib.nullcontext(), mode)
    )
    try:
        yield
    finally:
        torch.utils.checkpoint.checkpoint = plain


class _PartOfBatch(TorchFunctionMode):
    def __init__(self, rows: np.ndarray | None, size: int, sum_tensor: SumTensor | None) -> None:
        super().__init__()
        self._rows = None if rows is None else torch.from_numpy(rows)
        self._size = size
        self._sum_tensor = sum_tensor

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        del types
        named = kwargs or {}
        if func in _DROPOUTS:
            return self._dropout(func, *args, **named)
        if func is torch.Tensor.bernoulli_:
            return self._bernoulli_(*args, **named)
        if func is F.batch_norm and self._sum_tensor is not None:
            return self._batch_norm(*args, **named)
        return func(*args, **named)

    def _dropout(
        self, func: Any, values: Any, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Any:
        if not training or p == 0 or self._rows is None:
            return func(values, p, training, inplace)
        kept = self._of_whole(values, lambda whole: func(whole.fill_(1.0), p, True))
        return values.mul_(kept) if inplace else values * kept

    def _bernoulli_(self, tensor: torch.Tensor, p: Any = 0.5, *, generator: Any = None) -> Any:
        if self._rows is None or isinstance(p, torch.Tensor):
            return tensor.bernoulli_(p, generator=generator)
        return tensor.copy_(
            self._of_whole(tensor, lambda whole: whole.bernoulli_(p, generator=generator))
        )

    def _of_whole(
        self, part: torch.Tensor, drawn: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """The part's rows of what is drawn for the whole batch; rows of a picture lie together."""
        assert self._rows is not None
        rows = self._rows if len(self._rows) else torch.zeros(BLANK, dtype=torch.int64)
        each = part.shape[0] // len(rows)
        layout = (
            torch.channels_last
            if part.ndim == 4 and part.is_contiguous(memory_format=torch.channels_last)  # noqa: PLR2004
            else torch.contiguous_format
        )
        whole = torch.empty(
            (self._size * each, *part.shape[1:]),
            dtype=part.dtype,
            device=part.device,
            memory_format=layout,
        )
        own = (rows[:, None] * each + torch.arange(each)).flatten().to(part.device)
        return drawn(whole).index_select(0, own)

    def _batch_norm(
        self,
        given: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        *,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        if not training:
            return F.batch_norm(
                given, running_mean, running_var, weight, bias, training, momentum, eps
            )
        assert self._sum_tensor is not None
        return batch_norm_of_all(
            given,
            running_mean,
            running_var,
            weight,
            bias,
            momentum=momentum,
            eps=eps,
            counts=self._rows is None or len(self._rows) > 0,
            sum_tensor=self._sum_tensor,
        )
