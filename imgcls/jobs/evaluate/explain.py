"""What the model looked at in its worst mistakes.

Plain vision transformers by attention rollout, all others by Grad-CAM for the class that the model
said.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from imgcls.config.evaluate import EvaluateConfig
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.errors import ConfigError
from imgcls.jobs.evaluate.scored import Extra, Scored
from imgcls.jobs.page.galleries import worst_mistakes
from imgcls.jobs.scorer import open_scorer
from imgcls.models.card import model_from_card
from imgcls.models.explain.grad_cam import grad_cam, last_features
from imgcls.models.explain.rollout import AttentionRollout, has_rollout
from imgcls.storage.evaluations import GRAD_CAM, ROLLOUT, write_explanations

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
        last_features(model)


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
    batches = scored.session.batches([checkpoint], chosen, workers=0)
    rollout = has_rollout(scorer.model)
    # float32 throughout, whatever --amp says: gradients of half precision vanish
    heat_maps = _rollout(scorer.model) if rollout else grad_cam(scorer.model)
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
