"""Grad-CAM: where a model found the class that it said.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization"
(2017), as the grad-cam package computes it. Models of tokens take part by laying these out on the
grid of patches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from timm.layers import PatchEmbed
from torch import nn

from imgcls.errors import ConfigError

_TOKENS = 3  # dimensions of [pictures, tokens, channels]


def grad_cam(model: nn.Module) -> Callable[[torch.Tensor, np.ndarray], np.ndarray]:
    """Heat maps float32 [B, h, w] of normalised images [B, 3, H, W] and classes int64 [B].

    Raises ConfigError where timm does not say which layer to look at.
    """
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model.eval()
    layer = last_features(model)

    def heat_maps(images: torch.Tensor, said: np.ndarray) -> np.ndarray:
        targets = [ClassifierOutputTarget(int(c)) for c in said]
        with GradCAM(model, [layer], lambda output: _channels_first(model, output)) as cam:
            heat: np.ndarray = cam(images, targets)
        return heat

    return heat_maps


def last_features(model: nn.Module) -> nn.Module:
    """The layer whose output Grad-CAM weighs: the last one that still knows places.

    Raises ConfigError where timm does not say which that is.
    """
    info = getattr(model, "feature_info", None)
    if not info:
        name = type(model).__name__
        raise ConfigError(f"--explain: timm does not say where {name} has its last features")
    layer = model.get_submodule(info[-1]["module"])
    # behind a transformer's last block only the class token still counts, before it all do
    norm = getattr(layer, "norm1", None)
    return layer if norm is None or _patch_embedding(model) is None else norm


def _patch_embedding(model: nn.Module) -> Any:
    return next((part for part in model.modules() if isinstance(part, PatchEmbed)), None)


def _channels_first(model: nn.Module, output: torch.Tensor) -> torch.Tensor:
    """Features as [pictures, channels, height, width]."""
    if output.ndim == _TOKENS:
        patches = output[:, getattr(model, "num_prefix_tokens", 0) or 0 :]
        embedding = _patch_embedding(model)
        assert embedding is not None
        height, width = embedding.grid_size
        return patches.transpose(1, 2).reshape(len(output), -1, height, width)
    return output.permute(0, 3, 1, 2) if getattr(model, "output_fmt", "") == "NHWC" else output
