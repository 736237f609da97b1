"""Every family of the curated list builds, runs forward and backward, with 7 classes."""

from __future__ import annotations

import pytest
import torch

from imgcls.config.model import ModelConfig
from imgcls.models.build import (
    classifier_names,
    create_model,
    pretrained_cfg_of,
)
from imgcls.models.catalog.read import CURATED, load_catalog

_SMALL_PARAMETERS = 32_000_000
# timm has weights for its tf_ twins only, which is why these are not in the curated list
NAMES = (*CURATED, *(f"efficientnetv2_{size}" for size in "sml"))
SMALL = [n for n in NAMES if load_catalog()[n].parameters < _SMALL_PARAMETERS]
LARGE = [n for n in NAMES if n not in SMALL]
FIXED = {"swin": 56, "vit": 64}


def build(name):
    size = next((s for prefix, s in FIXED.items() if name.startswith(prefix)), 64)
    return create_model(
        ModelConfig(name=name, num_classes=7, img_size=size, pretrained=False)
    ), size


def check_step(model, size):
    model.train()
    logits = model(torch.randn(2, 3, size, size))
    assert logits.shape == (2, 7)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 6]))
    assert torch.isfinite(loss)
    loss.backward()
    first = pretrained_cfg_of(model)["first_conv"]
    for layer in (first, *classifier_names(model)):
        assert model.get_submodule(layer).weight.grad.abs().sum() > 0, layer


def test_the_curated_list_holds_all_promised_families():
    """The families of the README, by timm's own names."""
    families = ("resnet", "resnext", "wide_resnet", "efficientnet", "tf_efficientnetv2", "vit",
                "convnext", "mobilenetv3", "densenet", "regnetx", "regnety", "swin")  # fmt: skip
    for family in families:
        assert any(name.startswith(family) for name in CURATED), family
    assert set(CURATED) <= set(load_catalog())


@pytest.mark.parametrize("name", SMALL)
def test_a_small_model_builds_and_steps(name):
    """Forward and backward give a finite loss and gradients at both ends."""
    check_step(*build(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_a_large_model_builds_and_steps(name):
    """The same for models of more than 32 million parameters."""
    check_step(*build(name))
