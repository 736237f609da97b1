"""Attention rollout equals the paper's formulas by hand, and is only offered where defined."""

from __future__ import annotations

import pytest
import timm
import torch

from imgcls.models.explain.rollout import AttentionRollout, has_rollout


def vit(**changes):
    torch.manual_seed(0)
    return timm.create_model("test_vit", num_classes=3, **changes).eval()


def attention_by_hand(model, images):
    """Softmax of q k / sqrt(d) in each block, worked out from the block's input: [B, H, T, T]."""
    inputs, maps = [], []
    handles = [
        block.attn.register_forward_hook(lambda _m, args, _out: inputs.append(args[0]))
        for block in model.blocks
    ]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    for block, tokens in zip(model.blocks, inputs, strict=True):
        heads = block.attn.num_heads
        q, k, _ = block.attn.qkv(tokens).unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        maps.append((q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1))
    return maps


def rollout_by_hand(maps):
    """A = (mean over heads + I) / 2 of each block, the last block's from the left: [B, T, T]."""
    rolled = torch.eye(maps[0].shape[-1])
    for attention in maps:
        rolled = (attention.mean(1) + torch.eye(attention.shape[-1])) / 2 @ rolled
    return rolled.detach()


@pytest.mark.parametrize(
    ("changes", "rows", "prefix"),
    [
        ({}, slice(0, 1), 1),
        ({"reg_tokens": 2}, slice(0, 1), 3),
        ({"global_pool": "avg"}, slice(1, None), 1),
        ({"class_token": False, "reg_tokens": 2, "global_pool": "avg"}, slice(2, None), 2),
    ],
)
def test_rollout_equals_the_papers_formula(changes, rows, prefix):
    """The class token's row, or the patches' mean row; columns of the patches alone."""
    model, images = vit(**changes), torch.randn(2, 3, 160, 160)
    by_hand = rollout_by_hand(attention_by_hand(model, images))[:, rows, prefix:].mean(1)
    found = AttentionRollout(model)(images)
    assert found.shape == (2, 10, 10)
    torch.testing.assert_close(found.flatten(1), by_hand, atol=1e-6, rtol=1e-4)
    # the maps differ from place to place, so an equal mean alone would not pass
    assert (by_hand.std(dim=1) > 1e-6).all()


def test_pictures_do_not_depend_on_their_neighbours():
    """One by one and as a batch: the same maps, call after call."""
    rollout, images = AttentionRollout(vit()), torch.randn(3, 3, 160, 160)
    alone = torch.cat([rollout(image[None]) for image in images])
    torch.testing.assert_close(rollout(images), alone, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224",
        "vit_small_patch14_reg4_dinov2", "eva02_tiny_patch14_224", "beit_base_patch16_224",
        "vit_relpos_small_patch16_224", "vit_base_patch16_xp_224", "vit_small_r26_s32_224",
    ],
)  # fmt: skip
def test_plain_vision_transformers_have_one(name):
    """ViT, DeiT, DINOv2, EVA, BEiT, relative positions, parallel MLP, a convolutional stem."""
    with torch.device("meta"):
        model = timm.create_model(name)
        maps = AttentionRollout(model)(torch.zeros(1, *model.pretrained_cfg["input_size"]))
    assert has_rollout(model)
    assert maps.shape == (1, *model.patch_embed.grid_size)


@pytest.mark.parametrize(
    "name",
    [
        "test_resnet", "swin_tiny_patch4_window7_224", "mixer_s32_224", "xcit_nano_12_p16_224",
        "cait_xxs24_224", "samvit_base_patch16_224", "vit_small_patch16_18x2_224",
        "vit_dlittle_patch16_reg1_gap_256",
    ],
)  # fmt: skip
def test_others_have_none(name):
    """Windows, cross-covariance, late class tokens, parallel or subtracted attentions."""
    with torch.device("meta"):
        model = timm.create_model(name)
    assert not has_rollout(model)
