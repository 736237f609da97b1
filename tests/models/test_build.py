"""Options reach the model, or are refused in one line."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from imgcls.config.model import ModelConfig
from imgcls.errors import ModelError
from imgcls.models.build import (
    classifier_names,
    count_parameters,
    create_model,
    freeze_backbone,
    native_img_size,
    pretrained_facts,
)


def make(name="test_resnet", **options):
    return create_model(ModelConfig(name=name, **{"num_classes": 7, **options}))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "mobilenetv3_small_050"])
def test_dropout_stands_in_front_of_the_classifier(name):
    """In training the same input scores differently; in evaluation it does not."""
    model = make(name, dropout=0.5)
    size = pretrained_facts(model)["input_size"]
    images = torch.randn(2, *size)
    features = model.forward_features(images)
    model.eval()
    assert torch.equal(model.forward_head(features), model.forward_head(features))
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.eval()
    assert not torch.equal(model.forward_head(features), model.forward_head(features))


def test_drop_path_reaches_the_blocks():
    """Stochastic depth is somewhere in the model."""
    model = make("test_vit", drop_path_rate=0.3)
    assert any(type(m).__name__ == "DropPath" for m in model.modules())


def test_freezing_leaves_the_classifier_alone():
    """Only the classifier's parameters are trained."""
    model = make(freeze_backbone=True)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"fc.weight", "fc.bias"}
    trainable, total = count_parameters(model)
    assert trainable == 96 * 7 + 7 < total


def test_distilled_models_have_two_classifiers():
    """Both are trained when the backbone is frozen."""
    model = make("deit_tiny_distilled_patch16_224")
    assert classifier_names(model) == ("head", "head_dist")
    freeze_backbone(model)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}


def test_img_size_is_built_in_where_it_must_be():
    """A ViT gets other position tables, a ResNet only another fact; no other model changes."""
    assert make("test_vit", img_size=96).pos_embed.shape[1] == 1 + (96 // 16) ** 2
    assert pretrained_facts(make(img_size=96))["input_size"] == (3, 96, 96)
    assert pretrained_facts(make())["input_size"] == (3, 160, 160)
    assert native_img_size("test_resnet") == 160


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "resnet19"}, ["no such model", "resnet18", "list-models"]),
        ({"name": "densenet121", "drop_path_rate": 0.1}, ["does not take --drop-path-rate"]),
        ({"name": "efficientnet_b7", "pretrained": True}, ["no pretrained weights"]),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(options, words):
    """The model's name and what to do."""
    with pytest.raises(ModelError) as caught:
        make(**options)
    message = str(caught.value)
    assert "\n" not in message
    for word in [options["name"], *words]:
        assert word in message


def test_an_unreachable_hub_is_said_in_seconds(monkeypatch, tmp_path):
    """No retry storm: one question to the hub, then one line with both ways out."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(ModelError, match=r"--weights FILE, or --no-pretrained"):
        make("resnet18", pretrained=True)
    assert time.monotonic() - start < 20  # its own client takes three quarters of a minute
    assert constants.HF_HUB_OFFLINE is False
