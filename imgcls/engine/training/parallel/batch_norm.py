"""Batch normalisation by the mean and variance of all processes' pictures.

SyncBN: Peng et al., "MegDet", CVPR 2018, arXiv:1711.07240. torch's own is for CUDA alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional

SumTensor = Callable[[torch.Tensor], torch.Tensor]


def batch_norm_of_all(
    given: torch.Tensor,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    *,
    momentum: float,
    eps: float,
    counts: bool,
    sum_tensor: SumTensor,
) -> torch.Tensor:
    """`given` [B, C, ...] normalised in training, of its own dtype, and the running ones moved.

    counts: whether the pictures here are any of the batch; others are normalised by those that are.
    sum_tensor: the sum over all processes, in place. One sum is made forward and one backward.
    Raises ValueError, as torch does for a whole batch, for one value a channel.
    """
    values = given.float()
    size = values.numel() // values.shape[1] if counts else 0
    with torch.no_grad():
        mean, variance, number = _moments(values, size, sum_tensor)
        # the device is waited for only where it may be so
        if size < 2 and (found_here := int(number)) < 2:  # noqa: PLR2004
            raise ValueError(
                f"Expected more than 1 value per channel when training, got {found_here}"
            )
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = variance * (number / (number - 1).clamp_min(1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    whole = _Whole(mean, variance, number, eps, counts, sum_tensor)
    found: torch.Tensor = _Normalised.apply(values, weight, bias, whole)
    return found.to(given.dtype)


@dataclass(frozen=True, eq=False)
class _Whole:
    """mean, variance [C] and values a channel, [], of all processes' pictures; see above."""

    mean: torch.Tensor
    variance: torch.Tensor
    number: torch.Tensor
    eps: float
    counts: bool
    sum_tensor: SumTensor


def _moments(
    values: torch.Tensor, size: int, sum_tensor: SumTensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(mean [C], biased variance [C], values a channel []) of all processes.

    Sums of squares are taken of what each process finds by its own mean, and in double, where they
    do not cancel.
    """
    channels = values.shape[1]
    sums = torch.zeros(2 * channels + 1, dtype=torch.float64, device=values.device)
    if size:
        mean, variance = torch.batch_norm_update_stats(values, None, None, 0.0)
        mean = mean.double()
        sums[:channels] = mean * size
        sums[channels:-1] = (variance.double() + mean.square()) * size
        sums[-1] = size
    sums = sum_tensor(sums)
    number = sums[-1]
    mean, squares = (sums[:-1] / number.clamp_min(1)).view(2, channels)
    variance = (squares - mean.square()).clamp_min(0)
    return mean.float(), variance.float(), number


class _Normalised(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, mean and variance being those of all x.

    The gradients of weight and bias are this process's part, as those of all other parameters.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: torch.Tensor,
        weight: torch.Tensor | None,
        bias: torch.Tensor | None,
        whole: _Whole,
    ) -> torch.Tensor:
        ctx.save_for_backward(values, weight)
        ctx.whole = whole
        return functional.batch_norm(
            values, whole.mean, whole.variance, weight, bias, eps=whole.eps
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        values, weight = ctx.saved_tensors
        whole: _Whole = ctx.whole
        mean, variance = whole.mean, whole.variance
        # sums over this process's pictures of gradient x normalised value, and of the gradient
        _, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, values, torch.ones_like(mean), mean, variance, None, None, False, whole.eps,
            [False, True, True],
        )  # fmt: skip
        of_all = whole.sum_tensor(torch.cat([by_weight, by_bias]))
        along, level = (of_all / whole.number).view(2, -1)
        channels = [1, -1, *[1] * (values.ndim - 2)]
        steep = (variance + whole.eps).rsqrt()
        scale = (steep if weight is None else steep * weight).view(channels)
        if whole.counts:
            # scale * (gradient - level - normalised value * along)
            slope = along * steep
            moved = torch.addcmul(
                (slope * mean - level).view(channels), values, slope.view(channels), value=-1
            )
            by_values = moved.add_(gradient).mul_(scale)
        else:
            # these pictures have no part in mean and variance
            by_values = gradient * scale
        needed = ctx.needs_input_grad
        return (
            by_values if needed[0] else None,
            by_weight if needed[1] else None,
            by_bias if needed[2] else None,
            None,
        )
