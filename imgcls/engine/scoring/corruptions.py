"""Pictures made worse in a standard way, and what a model still makes of them.

Five kinds at five severities, as ImageNet-C defines them for 224 pixels and CIFAR-10-C for 32:
Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (2019). They are applied to the pixels that go into the model, with the figures of
the nearer size.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from imgcls.engine.device.batches import Images
from imgcls.engine.device.runtime import autocast, derive_seed
from imgcls.engine.scoring.scorer import Scorer

SEVERITIES = (1, 2, 3, 4, 5)
_SMALL_SIDE = 112


class _Severities(NamedTuple):
    """The strength of each kind by severity; blur in pixels."""

    noise_std: tuple[float, ...]
    blur_sigma: tuple[float, ...]
    jpeg_quality: tuple[int, ...]
    brightness: tuple[float, ...]
    contrast: tuple[float, ...]


_LARGE = _Severities(
    noise_std=(0.08, 0.12, 0.18, 0.26, 0.38),
    blur_sigma=(1.0, 2.0, 3.0, 4.0, 6.0),
    jpeg_quality=(25, 18, 15, 10, 7),
    brightness=(0.1, 0.2, 0.3, 0.4, 0.5),
    contrast=(0.4, 0.3, 0.2, 0.1, 0.05),
)
_SMALL = _Severities(
    noise_std=(0.04, 0.06, 0.08, 0.09, 0.10),
    blur_sigma=(0.4, 0.6, 0.7, 0.8, 1.0),
    jpeg_quality=(80, 65, 58, 50, 40),
    brightness=(0.05, 0.1, 0.15, 0.2, 0.3),
    contrast=(0.75, 0.5, 0.4, 0.3, 0.15),
)


def _figures(images: torch.Tensor) -> _Severities:
    return _SMALL if min(images.shape[-2:]) < _SMALL_SIDE else _LARGE


class _Changed(NamedTuple):
    """A batch with other pixels."""

    images: torch.Tensor
    keys: tuple[str, ...]
    valid: torch.Tensor


def _gaussian_noise(images: torch.Tensor, level: int, keys: Sequence[str]) -> torch.Tensor:
    noise = []
    for key in keys:
        generator = torch.Generator().manual_seed(derive_seed("gaussian_noise", level, key))
        noise.append(torch.randn(images.shape[1:], generator=generator))
    return _pixels(images / 255 + torch.stack(noise) * _figures(images).noise_std[level])


def _gaussian_blur(images: torch.Tensor, level: int, _keys: Sequence[str]) -> torch.Tensor:
    sigma = _figures(images).blur_sigma[level]
    reach = min(math.ceil(4 * sigma), min(images.shape[-2:]) - 1)
    blurred: torch.Tensor = functional.gaussian_blur(images, [2 * reach + 1] * 2, [sigma, sigma])
    return blurred


def _jpeg(images: torch.Tensor, level: int, _keys: Sequence[str]) -> torch.Tensor:
    quality = _figures(images).jpeg_quality[level]
    compressed = []
    for image in images:
        picture, file = functional.to_pil_image(image), io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        with Image.open(file, formats=["JPEG"]) as again:
            compressed.append(functional.pil_to_tensor(again))
    return torch.stack(compressed)


def _brightness(images: torch.Tensor, level: int, _keys: Sequence[str]) -> torch.Tensor:
    # adds to V of HSV: hue and saturation stay when all channels grow by one factor
    scaled = images / 255
    value = scaled.amax(dim=1, keepdim=True)
    brighter = (value + _figures(images).brightness[level]).clamp(max=1)
    return _pixels(torch.where(value > 0, scaled * brighter / value.clamp(min=1e-9), brighter))


def _contrast(images: torch.Tensor, level: int, _keys: Sequence[str]) -> torch.Tensor:
    scaled = images / 255
    mean = scaled.mean(dim=(-2, -1), keepdim=True)
    return _pixels((scaled - mean) * _figures(images).contrast[level] + mean)


def _pixels(images: torch.Tensor) -> torch.Tensor:
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


CORRUPTIONS: dict[str, Callable[[torch.Tensor, int, Sequence[str]], torch.Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "gaussian_blur": _gaussian_blur,
    "jpeg": _jpeg,
    "brightness": _brightness,
    "contrast": _contrast,
}


def corrupt(images: torch.Tensor, kind: str, severity: int, keys: Sequence[str]) -> torch.Tensor:
    """The pictures, uint8 [B, 1 or 3, H, W], with one of CORRUPTIONS at a severity from 1 to 5.

    The noise of a picture follows from its key, whatever batch it comes in.
    """
    return CORRUPTIONS[kind](images, severity - 1, keys)


@torch.inference_mode()
def predict_corrupted(
    scorer: Scorer,
    batches: Iterable[Images],
    on_batch: Callable[[int], None] = lambda _samples: None,
) -> dict[tuple[str, int], np.ndarray]:
    """The predicted class of each picture, int64 [N], by kind and severity of corruption.

    Every picture is loaded once and scored len(CORRUPTIONS) x 5 times.
    """
    model, compute = scorer.model.eval(), scorer.compute
    predicted: dict[tuple[str, int], list[np.ndarray]] = {
        (kind, severity): [] for kind in CORRUPTIONS for severity in SEVERITIES
    }
    for batch in batches:
        for (kind, severity), parts in predicted.items():
            worse = corrupt(batch.images, kind, severity, batch.keys)
            images = scorer.normalizer.images(_Changed(worse, batch.keys, batch.valid))
            with autocast(compute.device, compute.precision):
                answer = model(images).argmax(dim=1).cpu()
            parts.append(answer[batch.valid].numpy())
        on_batch(int(batch.valid.sum()))
    return {case: np.concatenate(parts) for case, parts in predicted.items()}
