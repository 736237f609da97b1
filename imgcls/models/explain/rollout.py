"""Attention rollout: where a plain vision transformer looked.

Abnar and Zuidema, "Quantifying Attention Flow in Transformers" (2020), over the attention maps that
timm's AttentionExtract reads. It says what was looked at, not for which class.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from timm.layers import DiffAttention
from timm.models import Beit, Eva, VisionTransformer
from timm.models.vision_transformer_relpos import VisionTransformerRelPos
from timm.utils import AttentionExtract
from torch import nn

# every token attends to every other in each block; windows and pooled tokens have no product
_PLAIN = (VisionTransformer, VisionTransformerRelPos, Eva, Beit)
_ATTENTION = re.compile(r"blocks\.\d+\.(attn\.)?attn_drop")


def has_rollout(model: nn.Module) -> bool:
    """True for plain vision transformers, one attention after the other: ViT, DeiT, BEiT, EVA."""
    if not isinstance(model, _PLAIN) or not hasattr(model.patch_embed, "grid_size"):
        return False
    # a difference of two attentions is no share of attention
    differs = any(isinstance(part, DiffAttention) for part in model.modules())
    # blocks of parallel attentions have none of that name
    return not differs and len(_attention_maps(model)) == len(model.blocks)


class AttentionRollout:
    """Attention rollout of a model that has_rollout; switches its fused attention off for good.

    Fused attention never holds the maps that are to be read.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model: Any = model
        parts: list[Any] = [part for part in model.modules() if hasattr(part, "fused_attn")]
        for part in parts:
            part.fused_attn = False
        self._extract = AttentionExtract(model, _attention_maps(model), method="hook")

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """How much of each patch reached the classifier: float32 [B, h, w] of normalised images.

        The class token's row of the rolled out attention where the model answers by it, else the
        mean of the patches' rows. Class, register and distillation tokens are left out as sources.
        Holds tokens x tokens x heads x blocks numbers for each image.
        """
        # [B, heads, T, T] of each block, from first to last
        maps = self._extract(images).values()
        rolled: torch.Tensor | None = None
        for attention in maps:
            mean = attention.float().mean(dim=1)
            # the residual connection passes each token on to itself
            mixed = mean + torch.eye(mean.shape[-1], device=mean.device)
            mixed = mixed / mixed.sum(dim=-1, keepdim=True)
            rolled = mixed if rolled is None else mixed @ rolled
        assert rolled is not None
        prefix = self._model.num_prefix_tokens
        first, last = (0, 1) if self._model.global_pool == "token" else (prefix, None)
        looked_at = rolled[:, first:last, prefix:].mean(dim=1)
        return looked_at.reshape(len(images), *self._model.patch_embed.grid_size)


def _attention_maps(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_modules() if _ATTENTION.fullmatch(name)]
