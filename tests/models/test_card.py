"""The checkpoint's config.json is timm's own format."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from imgcls.config.model import ModelConfig
from imgcls.errors import CheckpointError
from imgcls.models.build import create_model
from imgcls.models.card import (
    model_card,
    model_from_card,
    preprocessing_from_card,
    preprocessing_of,
)

CASES = [
    ("test_resnet", "auto"),
    ("test_vit", 96),
    ("mobilenetv3_small_100", 64),
    ("resnet18", 64),
    ("vit_tiny_patch16_224", 64),
    ("swin_tiny_patch4_window7_224", 56),
]


@pytest.mark.parametrize(("name", "img_size"), CASES)
def test_timm_rebuilds_the_model_from_the_folder(tmp_path, name, img_size):
    """local-dir gives the same logits and the same preprocessing, with no imgcls involved."""
    config = ModelConfig(name=name, num_classes=3, img_size=img_size, dropout=0.1, pretrained=False)
    model = create_model(config).eval()
    facts = preprocessing_of(model, "squash")
    card = json.loads(json.dumps(model_card(model, ["a", "b", "ü"], facts)))
    (tmp_path / "config.json").write_text(json.dumps(card))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.randn(2, *facts.input_size)
    with torch.inference_mode():
        assert torch.equal(model(images), theirs(images))
    resolved = timm.data.resolve_model_data_config(theirs)
    assert tuple(resolved["input_size"]) == facts.input_size
    assert resolved["crop_mode"] == "squash"
    assert resolved["crop_pct"] == 1.0
    assert theirs.pretrained_cfg["label_names"] == ["a", "b", "ü"]
    ours = model_from_card(card)
    ours.load_state_dict(model.state_dict())
    assert preprocessing_from_card(card) == facts


@pytest.mark.parametrize("in_chans", [1, 2, 4])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
def test_timm_rebuilds_a_model_of_other_channels(tmp_path, name, in_chans):
    """The trained first layer is not adapted a second time."""
    config = ModelConfig(name=name, num_classes=3, in_chans=in_chans, pretrained=False)
    model = create_model(config).eval()
    facts = preprocessing_of(model, "crop")
    assert facts.input_size[0] == len(facts.mean) == len(facts.std) == in_chans
    card = json.loads(json.dumps(model_card(model, ["a", "b", "c"], facts)))
    (tmp_path / "config.json").write_text(json.dumps(card))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    theirs = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    ours = model_from_card(card).eval()
    ours.load_state_dict(model.state_dict())
    images = torch.randn(2, *facts.input_size)
    with torch.inference_mode():
        assert torch.equal(model(images), theirs(images))
        assert torch.equal(model(images), ours(images))
    assert preprocessing_from_card(card) == facts


def test_preprocessing_is_the_models_own():
    """mean, std, interpolation and crop come from its pretrained_cfg."""
    model = create_model(ModelConfig(name="tf_efficientnet_lite0", num_classes=2, pretrained=False))
    facts = preprocessing_of(model, "crop")
    assert facts.mean == facts.std == (0.5, 0.5, 0.5)
    assert (facts.interpolation, facts.crop_pct, facts.crop_mode) == ("bicubic", 0.875, "center")
    assert preprocessing_of(model, "pad").crop_mode == "border"


GOOD = {
    "architecture": "test_resnet",
    "num_classes": 2,
    "label_names": ["a", "b"],
    "pretrained_cfg": {},
}


@pytest.mark.parametrize(
    "card",
    [
        {},
        {**GOOD, "architecture": "nope"},
        {**GOOD, "architecture": 3},
        {**GOOD, "architecture": "local-dir:/etc"},
        {**GOOD, "num_classes": "x"},
        {**GOOD, "num_classes": 0},
        {**GOOD, "num_classes": True},
        {"architecture": "test_resnet", "pretrained_cfg": {}},
        {**GOOD, "model_args": {"checkpoint_path": "/etc/passwd"}},
        {**GOOD, "pretrained_cfg": 3},
    ],
)
def test_a_nonsense_card_is_a_checkpoint_error(card):
    """Not a traceback out of timm, and no file that the card names is opened."""
    with pytest.raises(CheckpointError, match=r"config\.json"):
        model_from_card(card)


@pytest.mark.parametrize(
    "facts", [3, {}, {"input_size": 5}, {"input_size": [3, 8, 8], "mean": 3}, {"input_size": "ab"}]
)
def test_a_card_without_usable_preprocessing_is_a_checkpoint_error(facts):
    """Before a picture is read."""
    with pytest.raises(CheckpointError, match="pretrained_cfg"):
        preprocessing_from_card({**GOOD, "pretrained_cfg": facts})
