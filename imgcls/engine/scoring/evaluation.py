"""All metrics of a model over pictures that a script loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import nn

from imgcls.engine.device.batches import Batch, ComputeSettings, Normalizer
from imgcls.engine.device.runtime import exact_float32, get_device
from imgcls.engine.scoring.inference import InferencePass
from imgcls.engine.scoring.loaders import mean_loss, score_loader
from imgcls.engine.scoring.scorer import Scorer
from imgcls.errors import NonFiniteError
from imgcls.metrics.calculator import (
    MetricsCalculator,
    MetricSet,
    as_floats,
    validation_metrics,
)
from imgcls.metrics.predictions import require_classes
from imgcls.storage.scores import ScoreFile


@overload
def evaluate_model(
    model: nn.Module,
    dataloader: Iterable[Any],
    device: str | torch.device,
    num_classes: int,
    class_names: Sequence[str] | None = None,
) -> tuple[dict[str, float], MetricsCalculator, np.ndarray, np.ndarray]: ...


@overload
def evaluate_model(
    model: nn.Module,
    batches: Iterable[Batch],
    normalizer: Normalizer,
    compute: ComputeSettings,
    class_names: Sequence[str],
    *,
    top_k: Sequence[int] = (1, 3, 5),
    on_batch: Callable[[int], None] = ...,
    file: ScoreFile | None = None,
    temperature: float = 1.0,
) -> tuple[MetricSet, InferencePass]: ...


def evaluate_model(*arguments: Any, **named: Any) -> Any:
    """All metrics of a model over a DataLoader's pictures, or over batches of imgcls's own.

    evaluate_model(model, dataloader, device, num_classes, class_names=None) gives (metrics,
    calculator, targets, probs). dataloader: any that gives (images, targets), images float
    [B, C, H, W] and normalised as the model wants them, targets class numbers [B]. metrics: by the
    names of `test_metrics.json`, nan where undefined. calculator: a MetricsCalculator that holds
    these pictures. targets int64 [N], probs float32 [N, num_classes]. The model is moved to the
    device and stays in evaluation mode. Raises DataError for another number of classes, and for
    batches of another kind.

    evaluate_model(model, batches, normalizer, compute, class_names, *, top_k, on_batch, file,
    temperature) gives (metric set, inference pass). file: where the logits go; without it they
    stay in memory. temperature: divides the logits inside the softmax.
    """
    third = named.get("normalizer", arguments[2] if len(arguments) > 2 else None)  # noqa: PLR2004
    if isinstance(third, Normalizer):
        return _over_batches(*arguments, **named)
    return _over_loader(*arguments, **named)


def _over_loader(
    model: nn.Module,
    dataloader: Iterable[Any],
    device: str | torch.device,
    num_classes: int,
    class_names: Sequence[str] | None = None,
) -> tuple[dict[str, float], MetricsCalculator, np.ndarray, np.ndarray]:
    calculator = MetricsCalculator(num_classes, class_names)
    compute = ComputeSettings(get_device(device))
    with exact_float32(compute.device):
        result = score_loader(model, dataloader, compute)
    require_classes(num_classes, result.logits)
    calculator.add(result.predictions)
    return calculator.compute(), calculator, result.labels, result.predictions.probabilities


def _over_batches(
    model: nn.Module,
    batches: Iterable[Batch],
    normalizer: Normalizer,
    compute: ComputeSettings,
    class_names: Sequence[str],
    *,
    top_k: Sequence[int] = (1, 3, 5),
    on_batch: Callable[[int], None] = lambda _samples: None,
    file: ScoreFile | None = None,
    temperature: float = 1.0,
) -> tuple[MetricSet, InferencePass]:
    scorer = Scorer(model, normalizer, tuple(class_names), compute, temperature)
    result = scorer.run(batches, on_batch, file=file)
    return MetricsCalculator(class_names, top_k).compute(result.predictions), result


def validate_loader(
    model: nn.Module,
    dataloader: Iterable[Any],
    compute: ComputeSettings,
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    epoch: int | None = None,
) -> dict[str, float]:
    """The `val_` metrics of a model over a DataLoader's pictures; nan where undefined.

    dataloader: as in `evaluate_model`. loss_fn: what `val_loss` is the mean of, see `mean_loss`;
    the cross-entropy without it. epoch: its number, for messages.
    """
    try:
        result = score_loader(model, dataloader, compute)
    except NonFiniteError as error:
        when = "" if epoch is None else f"epoch {epoch}: "
        raise NonFiniteError(f"{when}{error}") from error
    metrics = validation_metrics(result.predictions)
    if loss_fn is not None:
        metrics["val_loss"] = mean_loss(result, loss_fn, compute.device)
    return as_floats(metrics)
