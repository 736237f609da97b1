"""--weights: a file the user has, or a line that says what is wrong with it."""

from __future__ import annotations

import argparse
import collections
import os
import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from imgcls.config.model import ModelConfig
from imgcls.errors import ModelError
from imgcls.models.build import create_model
from imgcls.models.weights import load_backbone, quiet_resizing


class Dangerous:
    """Unpickling this would make a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def trained():
    torch.manual_seed(1)
    return create_model(ModelConfig(name="test_resnet", pretrained=False))


def load(path):
    torch.manual_seed(2)
    return create_model(ModelConfig(name="test_resnet", num_classes=5, weights=path))


def assert_backbone_equal(model, other):
    own = model.state_dict()
    for key, value in other.state_dict().items():
        assert torch.equal(own[key], value) != key.startswith("fc."), key


@pytest.mark.parametrize(
    "kind", ["safetensors", "pth", "wrapped", "prefixed", "nested", "folder", "headless", "old"]
)
def test_any_usual_form_loads_all_but_the_classifier(tmp_path, trained, kind):
    """The classifier is always new, also when shapes would allow it."""
    state = trained.state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(state, path)
    elif kind == "folder":
        save_file(state, tmp_path / "model.safetensors")
        path = tmp_path
    elif kind == "wrapped":
        torch.save({"state_dict": state, "epoch": 3}, path)
    elif kind == "prefixed":
        torch.save({f"module.{k}": v for k, v in state.items()}, path)
    elif kind == "nested":
        torch.save({f"_orig_mod.module.{k}": v for k, v in state.items()}, path)
    elif kind == "headless":
        torch.save({k: v for k, v in state.items() if not k.startswith("fc.")}, path)
    elif kind == "old":  # as torchvision's files are: without the counters of batches
        torch.save({k: v for k, v in state.items() if "num_batches_tracked" not in k}, path)
    else:
        torch.save(state, path)
    model = load(path)
    assert_backbone_equal(model, trained)
    assert model.fc.weight.shape == (5, 96)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("conv1.0.weight"), r"lacks conv1\.0\.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "has extra, which the model has not"),
        (
            lambda s: s.update({"conv1.0.weight": torch.zeros(1, 2)}),
            r"conv1\.0\.weight is \[1, 2\] in the file",
        ),
    ],
)
def test_a_file_of_another_model_is_told_by_its_first_tensor(tmp_path, trained, change, words):
    """Nothing is loaded half."""
    state = dict(trained.state_dict())
    change(state)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=words):
        load(tmp_path / "w.safetensors")


def test_a_pickled_object_is_refused_and_not_run(tmp_path):
    """Only plain tensors are read."""
    torch.save({"model": Dangerous(str(tmp_path / "made"))}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="could run code"):
        load(tmp_path / "w.pth")
    assert not (tmp_path / "made").exists()


class OfAnotherTrainer:
    """A class that only the trainer knows, with state of its own."""

    def __init__(self):
        self.lr = 0.1


def as_trainers_save(kind, state):
    """The weights among what timm, torchvision, Lightning and others save beside them."""
    settings = argparse.Namespace(model="test_resnet", lr=0.1)
    average = {k: v + 1 if v.is_floating_point() else v for k, v in state.items()}
    return {
        "timm": {
            "epoch": 3, "arch": "test_resnet", "state_dict": average, "state_dict_ema": state,
            "args": settings, "metric": 71.2,
        },
        "torchvision": {"model": state, "optimizer": {}, "args": settings},
        "model_state_dict": {"epoch": 3, "model_state_dict": state},
        "nested": {"model": {"state_dict": state}},
        "numpy": {"state_dict": state, "metric": np.float64(71.2), "curve": np.arange(3.0)},
        "lightning": {
            "state_dict": {
                **{f"net.{k}": v for k, v in state.items()}, "criterion.weight": torch.ones(10)
            },
            "hyper_parameters": collections.defaultdict(list, lr=[0.1]),
            "callbacks": {"best": OfAnotherTrainer()},
        },
        "ssl": {
            "state_dict": {
                **{f"module.backbone.{k}": v for k, v in state.items()},
                "module.projector.weight": torch.ones(10),
            }
        },
    }[kind]  # fmt: skip


TAKEN = {
    "timm": "90 tensors of state_dict_ema",
    "torchvision": "90 tensors of model",
    "model_state_dict": "90 tensors of model_state_dict",
    "nested": "90 tensors of model.state_dict",
    "numpy": "90 tensors of state_dict",
    "lightning": "90 tensors of state_dict under the prefix net.",
    "ssl": "90 tensors of state_dict under the prefix module.backbone.",
}


@pytest.mark.parametrize("kind", TAKEN)
def test_weights_lie_among_what_other_trainers_save(tmp_path, trained, kind):
    """Found in the usual wrappers and behind any prefix, and it is said what was taken."""
    torch.save(as_trainers_save(kind, trained.state_dict()), tmp_path / "w.pth.tar")
    config = ModelConfig(name="test_resnet", num_classes=5, weights=tmp_path / "w.pth.tar")
    said = []
    assert_backbone_equal(create_model(config, said.append), trained)
    assert said == [TAKEN[kind]]


@pytest.mark.parametrize("function", [eval, exec, print])
def test_what_a_pickle_would_call_is_not_called(tmp_path, trained, function, capsys):
    """Beside good weights too: they are read, and the call comes to nothing."""

    class Calls:
        def __reduce__(self):
            return function, ("print('ran')",)

    torch.save({"state_dict": trained.state_dict(), "args": Calls()}, tmp_path / "w.pth")
    assert_backbone_equal(load(tmp_path / "w.pth"), trained)
    torch.save({"state_dict": Calls()}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match="has no state dict"):
        load(tmp_path / "w.pth")
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "list"])
def test_a_damaged_file_is_one_line(tmp_path, trained, name, damage):
    """Truncated, empty, missing, or something else altogether."""
    path = tmp_path / name
    if damage == "list":
        torch.save([1, 2], path)
    elif damage != "missing":
        torch.save(trained.state_dict(), path)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "img_size", "table"),
    [
        ("test_vit", 96, "pos_embed"),
        (
            "swin_tiny_patch4_window7_224",
            112,
            "layers.3.blocks.0.attn.relative_position_bias_table",
        ),
    ],
)
def test_weights_of_another_input_size_are_resized(tmp_path, name, img_size, table):
    """The tables that depend on the size are interpolated by timm; the rest is equal."""
    trained = create_model(ModelConfig(name=name, pretrained=False))
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    weights = tmp_path / "w.safetensors"
    model = create_model(ModelConfig(name=name, num_classes=3, img_size=img_size, weights=weights))
    overlay = {"file": str(weights)}
    with quiet_resizing():
        theirs = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=3, img_size=img_size
        )
    own, expected = model.state_dict(), theirs.state_dict()
    assert own[table].shape != trained.state_dict()[table].shape
    for key, value in own.items():
        if not key.startswith("head."):
            assert torch.equal(value, expected[key]), key


def test_a_publishers_own_names_are_converted(tmp_path):
    """Meta's ConvNeXt files name their layers otherwise; timm's converter knows how."""
    trained = create_model(ModelConfig(name="convnext_atto", pretrained=False))
    renames = {
        "stem.": "downsample_layers.0.",
        "head.fc.": "head.",
        "head.norm.": "norm.",
        ".conv_dw.": ".dwconv.",
        ".mlp.fc1.": ".pwconv1.",
        ".mlp.fc2.": ".pwconv2.",
    }
    theirs = {}
    for key, value in trained.state_dict().items():
        name = key
        for own, published in renames.items():
            name = name.replace(own, published)
        name = re.sub(r"stages\.(\d+)\.blocks\.(\d+)", r"stages.\1.\2", name)
        name = re.sub(r"stages\.(\d+)\.downsample\.(\d+)", r"downsample_layers.\1.\2", name)
        theirs[name] = value
    torch.save({"model": theirs}, tmp_path / "w.pth")
    config = ModelConfig(name="convnext_atto", num_classes=3, weights=tmp_path / "w.pth")
    own = create_model(config).state_dict()
    for key, value in trained.state_dict().items():
        if not key.startswith("head.fc."):
            assert torch.equal(own[key], value), key


@pytest.mark.parametrize("in_chans", [1, 2, 4])
def test_a_first_layer_for_rgb_is_adapted_to_other_channels(tmp_path, trained, in_chans):
    """As timm adapts its own weights: on grey, the same answer as on RGB with the grey thrice."""
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    model = create_model(
        ModelConfig(name="test_resnet", weights=tmp_path / "w.safetensors", in_chans=in_chans)
    )
    name = model.pretrained_cfg["first_conv"] + ".weight"
    first, before = model.state_dict()[name], trained.state_dict()[name]
    if in_chans == 1:
        grey = torch.randn(1, 1, 32, 32)
        one = torch.nn.functional.conv2d(grey, first)
        three = torch.nn.functional.conv2d(grey.expand(1, 3, 32, 32), before)
        assert torch.allclose(one, three, atol=1e-5)
    else:
        expected = torch.cat([before, before], 1)[:, :in_chans] * (3 / in_chans)
        assert torch.allclose(first, expected)


def test_wrappers_that_hold_themselves_come_to_an_end(tmp_path):
    """A pickle may hold itself; opening it layer by layer would never end."""
    content = {}
    content["state_dict"] = content
    torch.save(content, tmp_path / "w.pth")
    model = create_model(ModelConfig(name="test_resnet", pretrained=False, num_classes=2))
    with pytest.raises(ModelError, match="no state dict"):
        load_backbone(model, tmp_path / "w.pth", ("fc",))


def test_a_first_layer_of_one_dimension_is_of_another_shape(tmp_path):
    """It has no channels that could be adapted."""
    model = create_model(ModelConfig(name="test_resnet", pretrained=False, num_classes=2))
    weights = {**model.state_dict(), model.pretrained_cfg["first_conv"] + ".weight": torch.ones(3)}
    torch.save(weights, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"is \[3\] in the file"):
        load_backbone(model, tmp_path / "w.pth", ("fc",))


def test_weights_that_a_training_broke_are_refused(tmp_path, trained):
    """A single nan would be found only by the first loss."""
    state = trained.state_dict()
    state["conv1.1.weight"][3] = torch.nan
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=r"w\.safetensors: conv1\.1\.weight holds inf or nan"):
        load(tmp_path / "w.safetensors")
