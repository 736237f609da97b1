"""A model over any torch DataLoader of (images, targets)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from imgcls.engine.device.batches import ComputeSettings
from imgcls.engine.scoring.features import FeatureInput
from imgcls.engine.scoring.inference import InferencePass, predict
from imgcls.errors import DataError

_IMAGE_DIMS = 4


@dataclass(frozen=True)
class LoadedBatch:
    """A loader's batch: images float [B, C, H, W], labels int64 [B]; none of it is padding.

    first: the number of its first picture, from 0; keys count on from there.
    """

    images: torch.Tensor
    labels: torch.Tensor
    first: int

    @property
    def keys(self) -> tuple[str, ...]:
        """The pictures by their numbers, since a loader gives no names."""
        return tuple(f"picture {self.first + number}" for number in range(len(self.images)))

    @property
    def valid(self) -> torch.Tensor:
        """Bool [B], all True."""
        return torch.ones(len(self.images), dtype=torch.bool)


def loaded_batches(dataloader: Iterable[Any], dtype: torch.dtype) -> Iterator[LoadedBatch]:
    """The loader's batches, their images of this type.

    Targets are of any integer type; what follows the two in a batch is passed over. Raises
    DataError for batches of another kind, and for a loader without any.
    """
    first = 0
    for batch in dataloader:
        images, targets = _images_and_targets(batch)
        yield LoadedBatch(images.to(dtype), targets.to("cpu", torch.int64), first)
        first += len(images)
    if not first:
        raise DataError("the DataLoader gives no pictures")


def score_loader(
    model: nn.Module,
    dataloader: Iterable[Any],
    compute: ComputeSettings,
    on_batch: Callable[[int], None] = lambda _samples: None,
) -> InferencePass:
    """All scores of a loader's pictures, which are normalised as the model wants them already.

    The model is moved to the device of `compute`, and stays in evaluation mode. Raises DataError
    for batches that are no (images, targets), NonFiniteError as `predict`.
    """
    model.to(compute.device)
    batches = loaded_batches(dataloader, dtype_of(model))
    return predict(model, batches, FeatureInput(compute), compute, on_batch)


def mean_loss(
    result: InferencePass,
    loss_fn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    device: torch.device,
) -> float:
    """The mean over all pictures of what the loss says of each batch, on the device.

    loss_fn takes logits float32 [B, C] and labels int64 [B] and gives the mean of a batch, its sum
    where it says so (torch's `reduction`), or a loss for each picture.
    """
    summed = getattr(loss_fn, "reduction", "mean") == "sum"
    total, first = 0.0, 0
    with torch.no_grad():
        for size in result.batch_sizes:
            rows = slice(first, first + size)
            logits = torch.from_numpy(result.logits[rows]).to(device)
            loss = loss_fn(logits, torch.from_numpy(result.labels[rows]).to(device))
            total += float(loss.sum()) * (1 if summed or loss.ndim else size)
            first += size
    return total / first


def dtype_of(model: nn.Module) -> torch.dtype:
    """The type of the model's own numbers, which its input must have."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def device_of(model: nn.Module) -> torch.device:
    """Where the model is."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _images_and_targets(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    if not isinstance(batch, (list, tuple)) or len(batch) < 2:  # noqa: PLR2004
        raise DataError(
            f"the DataLoader gives a {type(batch).__name__}; each batch must be (images, targets)"
        )
    images, targets = batch[0], torch.as_tensor(batch[1])
    if not isinstance(images, torch.Tensor) or images.ndim != _IMAGE_DIMS:
        what = list(images.shape) if isinstance(images, torch.Tensor) else type(images).__name__
        raise DataError(f"images are {what}; they must be a tensor [pictures, channels, H, W]")
    if not images.is_floating_point():
        raise DataError(
            f"images are {images.dtype}; they must be floats, normalised as the model wants them"
        )
    if targets.shape != images.shape[:1] or targets.is_floating_point() or targets.is_complex():
        raise DataError(
            f"targets are {targets.dtype} {list(targets.shape)} for {len(images)} pictures; they "
            "must be class numbers, one a picture"
        )
    return images, targets
