"""A created model tells how many parameters it has."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref

import pytest
import timm
import torch

from imgcls.config.model import ModelConfig
from imgcls.models.build import create_model, freeze_backbone


@pytest.fixture
def model():
    return create_model(ModelConfig(name="test_resnet", num_classes=3, pretrained=False))


def test_a_model_counts_its_parameters_as_they_are(model):
    """All of them, and those that are trained now."""
    total = sum(p.numel() for p in model.parameters())
    assert model.get_num_total_params() == model.get_num_trainable_params() == total
    freeze_backbone(model)
    assert model.get_num_trainable_params() == sum(p.numel() for p in model.fc.parameters())
    assert model.get_num_total_params() == total


def test_it_stays_timms_own_model(model):
    """Its class, its keys and its modules."""
    plain = timm.create_model("test_resnet", num_classes=3)
    assert type(model) is type(plain)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert [n for n, _ in model.named_modules()] == [n for n, _ in plain.named_modules()]


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_a_copy_counts_its_own(model, how):
    """Not the original's, which may be frozen or gone."""
    if how == "deepcopy":
        other = copy.deepcopy(model)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(model))
    else:
        stream = io.BytesIO()
        torch.save(model, stream)
        stream.seek(0)
        other = torch.load(stream, weights_only=False)
    freeze_backbone(model)
    total = model.get_num_total_params()
    del model
    assert other.get_num_trainable_params() == total


def test_a_model_is_freed_when_it_is_let_go(model):
    """At once, not when Python next collects circles: it may hold a GPU's memory."""
    here = create_model(ModelConfig(name="test_resnet", num_classes=3, pretrained=False))
    gone = weakref.ref(here)
    gc.disable()
    try:
        del here
        assert gone() is None
    finally:
        gc.enable()


def test_nothing_is_printed(capfd):
    """Neither on stdout nor on stderr."""
    create_model(ModelConfig(name="test_vit", num_classes=3, pretrained=False, img_size=32))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.slow
def test_a_compiled_model_counts_too(model):
    """Wrapped by torch.compile, or scripted past it."""
    assert torch.compile(model).get_num_total_params() == model.get_num_total_params()
    model.compile(backend="eager")
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 3)
