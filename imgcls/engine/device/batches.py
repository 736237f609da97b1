"""From loaded batches to what the model takes: on the device, normalised, mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing

from imgcls.config.augment import Augmentation
from imgcls.engine.device.runtime import derive_seed, set_seed


class Images(Protocol):
    """A batch of pictures to score.

    images: uint8 [B, C, H, W]; keys: B names of pictures; valid: bool [B], False for padding.
    """

    @property
    def images(self) -> torch.Tensor: ...  # noqa: D102
    @property
    def keys(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def valid(self) -> torch.Tensor: ...  # noqa: D102


class Batch(Images, Protocol):
    """One loaded batch, with labels: int64 [B]."""

    @property
    def labels(self) -> torch.Tensor: ...  # noqa: D102


class TrainBatch(Batch, Protocol):
    """One loaded batch, or the part of it that this process has.

    rows: int64 [B], where the pictures stand in the whole batch of `whole_size`; None for all.
    """

    @property
    def rows(self) -> np.ndarray | None: ...  # noqa: D102
    @property
    def whole_size(self) -> int | None: ...  # noqa: D102


@dataclass(frozen=True)
class ComputeSettings:
    """Where and how a model computes; the same for training, evaluation and timing."""

    device: torch.device
    precision: torch.dtype | None = None
    channels_last: bool = False

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of picture batches and convolution weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def place(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model, on the device and in the memory layout."""
        return model.to(self.device, memory_format=self.memory_format)  # type: ignore[call-overload,no-any-return]


class Normalizer:
    """uint8 batches to float32 batches on the device, by the model's own mean and std."""

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], settings: ComputeSettings
    ) -> None:
        self._settings = settings
        shape = (1, len(mean), 1, 1)
        self._mean = torch.tensor(mean, device=settings.device).mul(255.0).view(shape)
        self._std = torch.tensor(std, device=settings.device).mul(255.0).view(shape)

    def images(self, batch: Images) -> torch.Tensor:
        """The batch's pictures: float32 [B, C, H, W] on the device, normalised."""
        return self.normalized(self._moved(batch.images))

    def normalized(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures that are on the device, uint8 [B, C, H, W]: float32, normalised."""
        images = images.contiguous(memory_format=self._settings.memory_format)
        if not self._settings.channels_last:
            return images.float().sub_(self._mean).div_(self._std)
        # whole rows at once: three channels side by side are too few for a vector
        pixels = images.movedim(1, -1)
        mean, std = (value.flatten().repeat(pixels.shape[2]) for value in (self._mean, self._std))
        rows = pixels.flatten(2).float().sub_(mean).div_(std)
        return rows.view(pixels.shape).movedim(-1, 1)

    def labels(self, batch: Batch) -> torch.Tensor:
        """The batch's labels: int64 [B] on the device."""
        return self._moved(batch.labels)

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        # asynchronous copies to mps corrupt silently (pytorch/pytorch#139550)
        asynchronous = self._settings.device.type == "cuda"
        return tensor.to(self._settings.device, non_blocking=asynchronous)


class TrainBatcher:
    """Normalised training batches with what is done to whole batches: erasing, mixup, cutmix."""

    def __init__(
        self, normalizer: Normalizer, augment: Augmentation, num_classes: int, device: torch.device
    ) -> None:
        self._normalizer = normalizer
        self._erase = (
            RandomErasing(probability=augment.reprob, mode="pixel", device=str(device))
            if augment.reprob > 0
            else None
        )
        self._mix = (
            Mixup(
                mixup_alpha=augment.mixup,
                cutmix_alpha=augment.cutmix,
                label_smoothing=augment.smoothing,
                num_classes=num_classes,
            )
            if augment.mixes
            else None
        )

    def prepare(self, batch: TrainBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """(images, targets): float32 [B, C, H, W]; int64 [B], or float32 [B, classes] if mixed."""
        images = self._normalizer.images(batch)
        targets = self._normalizer.labels(batch)
        if self._erase is not None:
            self._erase_each(images, batch)
        if self._mix is not None:
            images, targets = self._mix(images, targets)
        return images, targets

    def _erase_each(self, images: torch.Tensor, batch: TrainBatch) -> None:
        """Erase in place, each picture by a seed of its own, whatever it is loaded with."""
        assert self._erase is not None
        update = torch.initial_seed()
        places = range(len(images)) if batch.rows is None else batch.rows.tolist()
        for image, place, key in zip(images, places, batch.keys, strict=True):
            set_seed(derive_seed(update, "erase", place, key))
            self._erase(image)
        set_seed(derive_seed(update, "erased"))
