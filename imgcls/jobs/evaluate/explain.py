"""What the model looked at in its worst mistakes.

Plain vision transformers by attention rollout. All others by Grad-CAM: Selvaraju et al., "Grad-CAM:
Visual Explanations from Deep Networks via Gradient-based Localization" (2017), for the class that
the model said, as the grad-cam package computes it. Other models of tokens take part by laying
these out on the grid of patches.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.layers import PatchEmbed
from torch import nn

from imgcls.config.evaluate import EvaluateConfig
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.errors import ConfigError
from imgcls.jobs.evaluate.scored import Extra, Scored
from imgcls.jobs.page.galleries import worst_mistakes
from imgcls.jobs.scorer import open_scorer
from imgcls.models.card import model_from_card
from imgcls.models.explain.rollout import AttentionRollout, has_rollout
from imgcls.storage.evaluations import GRAD_CAM, ROLLOUT, write_explanations

_TOKENS = 3  # dimensions of [pictures, tokens, channels]


# float32 [B, h, w] of normalised images and the classes that the model said
HeatMaps = Callable[[torch.Tensor, np.ndarray], np.ndarray]


def explain_if_asked(config: EvaluateConfig, checkpoints: Sequence[Checkpoint]) -> Extra | None:
    """The part of `--explain`. Raises ConfigError for several models, views, and what hides."""
    if not config.explain:
        return None
    if len(checkpoints) > 1 or config.tta != "none":
        raise ConfigError("--explain: explains one model on single views; leave the others")
    require_explainable(checkpoints[0])
    return explain_mistakes


def require_explainable(checkpoint: Checkpoint) -> None:
    """Raise ConfigError unless grad-cam is installed and there is a way to explain the model."""
    if importlib.util.find_spec("pytorch_grad_cam") is None:
        raise ConfigError('--explain: needs grad-cam: pip install "imgcls[explain]"')
    model = model_from_card(checkpoint.card)
    if not has_rollout(model):
        _last_features(model)


def explain_mistakes(scored: Scored) -> dict[str, Any]:
    """Nothing for the report: what the model looked at lies in the folder, beside the scores.

    Of its most confident mistakes. Raises OSError when it cannot be written.
    """
    predictions, [checkpoint] = scored.predictions, scored.checkpoints
    rows = worst_mistakes(predictions)
    if not len(rows):
        return {}
    # a fresh one: what a pass without gradients leaves in a model can take none
    scorer = open_scorer(checkpoint, scored.session.compute)
    chosen = replace(scored.pictures, indices=scored.pictures.indices[rows])
    batches = scored.session.batches(checkpoint, chosen, workers=0)
    rollout = has_rollout(scorer.model)
    # float32 throughout, whatever --amp says: gradients of half precision vanish
    heat_maps = _rollout(scorer.model) if rollout else _grad_cam(scorer.model)
    overlays = _overlays(heat_maps, batches, scorer.normalizer, predictions.predicted[rows])
    write_explanations(
        scored.folder,
        ROLLOUT if rollout else GRAD_CAM,
        zip((predictions.keys[row] for row in rows), overlays, strict=True),
    )
    return {}


def _overlays(
    heat_maps: HeatMaps, batches: Any, normalizer: Any, said: np.ndarray
) -> Iterator[Image.Image]:
    import cv2
    from pytorch_grad_cam.utils.image import scale_cam_image, show_cam_on_image

    start = 0
    for batch in batches:
        classes = said[start : start + len(batch.labels)]
        start += len(classes)
        height, width = batch.images.shape[2:]
        heat = heat_maps(normalizer.images(batch), classes)
        for image, mask in zip(batch.images, scale_cam_image(heat, (width, height)), strict=True):
            seen = image.permute(1, 2, 0).numpy().astype(np.float32) / 255
            shown = np.repeat(seen[..., :1], 3, axis=2) if seen.shape[2] != 3 else seen  # noqa: PLR2004
            # inferno rises evenly in lightness, for any kind of colour vision
            yield Image.fromarray(
                show_cam_on_image(shown, mask, use_rgb=True, colormap=cv2.COLORMAP_INFERNO)
            )


def _rollout(model: nn.Module) -> HeatMaps:
    rollout = AttentionRollout(model)

    def heat_maps(images: torch.Tensor, _said: np.ndarray) -> np.ndarray:
        # one by one: the maps of a batch of large pictures would fill the memory
        return np.concatenate([rollout(image[None]).cpu().numpy() for image in images])

    return heat_maps


def _grad_cam(model: nn.Module) -> HeatMaps:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model.eval()
    layer = _last_features(model)

    def heat_maps(images: torch.Tensor, said: np.ndarray) -> np.ndarray:
        targets = [ClassifierOutputTarget(int(c)) for c in said]
        with GradCAM(model, [layer], lambda output: _channels_first(model, output)) as cam:
            heat: np.ndarray = cam(images, targets)
        return heat

    return heat_maps


def _last_features(model: nn.Module) -> nn.Module:
    """The layer whose output Grad-CAM weighs: the last one that still knows places."""
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
