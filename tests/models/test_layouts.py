"""What other trainers save, by its layout, and timm's model with its weights."""

from __future__ import annotations

import pytest
import timm
import torch
from earlier_files import Wrapped, adamw, of_timm
from safetensors.torch import save_file

from imgcls.config.model import ModelConfig
from imgcls.models.build import create_model
from imgcls.models.fitting import fit
from imgcls.models.layouts import read_trained


@pytest.fixture
def model():
    torch.manual_seed(1)
    return create_model(ModelConfig(name="test_resnet", num_classes=3, pretrained=False)).eval()


def read(tmp_path, content, name="old.pt"):
    torch.save(content, tmp_path / name)
    return read_trained(tmp_path / name)


def answers(model):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model(images)


def plus_one(state):
    return {k: v + 1 if v.is_floating_point() else v for k, v in state.items()}


def as_saved(kind, model):
    """(the content, its epochs) of a model of timm's own, as trainers save it."""
    state = model.state_dict()
    raw = plus_one(state)
    return {
        "bare": (state, None),
        "distributed": ({f"module.{k}": v for k, v in state.items()}, None),
        "compiled": ({f"_orig_mod.module.{k}": v for k, v in state.items()}, None),
        "old counters": ({k: v for k, v in state.items() if "num_batches" not in k}, None),
        "timm": (of_timm(model, adamw(model)), 5),
        "timm ema": (
            {**of_timm(model, adamw(model)), "state_dict": raw, "state_dict_ema": state},
            5,
        ),
        "lightning": (
            {
                "state_dict": {
                    **{f"net.{k}": v for k, v in state.items()}, "criterion.weight": torch.ones(3)
                },
                "pytorch-lightning_version": "2.4.0", "epoch": 2, "global_step": 60,
                "optimizer_states": [adamw(model).state_dict()], "lr_schedulers": [],
            },
            3,
        ),
        "nested ema": (
            {"epoch": 2, "model_state_dict": raw, "ema": {"decay": 0.9, "module": state}},
            2,
        ),
    }[kind]  # fmt: skip


@pytest.mark.parametrize(
    "kind",
    [
        "bare",
        "distributed",
        "compiled",
        "old counters",
        "timm",
        "timm ema",
        "lightning",
        "nested ema",
    ],
)
def test_a_timm_model_is_found_in_any_usual_file(tmp_path, model, kind):
    """Its answers are the file's, and its epochs are counted from 1, whoever counted from 0."""
    content, epochs = as_saved(kind, model)
    trained = read(tmp_path, content)
    assert trained.epochs == epochs
    fitted = fit(tmp_path / "old.pt", trained, "test_resnet", None)
    assert torch.equal(answers(fitted.model), answers(model))
    assert (fitted.raw is not None) == ("ema" in kind)
    assert fitted.parameters == tuple(name for name, _ in model.named_parameters())


def test_safetensors_hold_a_state_dict(tmp_path, model):
    """Of timm's names."""
    save_file(model.state_dict(), tmp_path / "m.safetensors")
    trained = read_trained(tmp_path / "m.safetensors")
    fitted = fit(tmp_path / "m.safetensors", trained, "test_resnet", None)
    assert torch.equal(answers(fitted.model), answers(model))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_a_wrapped_model_may_lie_in_another(tmp_path, prefix):
    """As DistributedDataParallel, torch.compile or a module around both leave it."""
    torch.manual_seed(2)
    old = Wrapped().eval()
    content = {"model_state_dict": {f"{prefix}{k}": v for k, v in old.state_dict().items()}}
    trained = read(tmp_path, content)
    fitted = fit(tmp_path / "old.pt", trained, "test_resnet", None)
    assert torch.equal(answers(fitted.model), answers(old))
    assert fitted.from_wrapper


@pytest.mark.slow
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_backbone_inside_a_model_is_none_around_it(tmp_path, wrapped):
    """A hybrid ViT has layers called patch_embed.backbone."""
    name = "vit_tiny_r_s16_p8_224"
    old = Wrapped(name).eval() if wrapped else timm.create_model(name, num_classes=3).eval()
    trained = read(tmp_path, {"model_state_dict": old.state_dict()})
    fitted = fit(tmp_path / "old.pt", trained, name, None)
    assert fitted.from_wrapper is wrapped
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(fitted.model(images), old(images), rtol=1e-4, atol=1e-4)


def test_a_scheduler_shows_that_epochs_were_counted_from_0(tmp_path):
    """It has made one step more."""
    content = {"model_state_dict": Wrapped().state_dict(), "epoch": 4}
    assert read(tmp_path, content).epochs == 4
    assert read(tmp_path, {**content, "scheduler_state_dict": {"last_epoch": 4}}).epochs == 4
    assert read(tmp_path, {**content, "scheduler_state_dict": {"last_epoch": 5}}).epochs == 5


def test_timms_settings_are_read(tmp_path, model):
    """The model, its input and the optimizer's name."""
    content = of_timm(model, adamw(model), mean=(0.5, 0.5, 0.5), img_size=96, epochs=30)
    trained = read(tmp_path, content)
    assert trained.architecture == "test_resnet"
    assert trained.metrics == {"metric": 71.5}
    assert trained.settings["mean"] == (0.5, 0.5, 0.5)
    assert trained.settings["img_size"] == 96


def test_grey_input_is_read_off_the_first_layer(tmp_path):
    """No option has to say it."""
    config = ModelConfig(name="test_resnet", num_classes=3, pretrained=False, in_chans=1)
    trained = read(tmp_path, create_model(config).state_dict())
    fitted = fit(tmp_path / "old.pt", trained, "test_resnet", None)
    assert fitted.config.in_chans == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientnet_lite0",
        "mobilenetv3_small_100",
        "convnext_atto",
        "vit_tiny_patch16_224",
        "swin_tiny_patch4_window7_224",
        "regnetx_002",
        "densenet121",
        "deit_tiny_distilled_patch16_224",
        "resnetv2_50x1_bit",
        "nfnet_l0",
        "dla34",
    ],
)
def test_wrapped_models_of_all_kinds_answer_as_before(tmp_path, name):
    """Heads with a hidden layer, convolutions as classifiers, two classifiers."""
    torch.manual_seed(3)
    old = Wrapped(name, 5).eval()
    trained = read(tmp_path, {"model_state_dict": old.state_dict()})
    fitted = fit(tmp_path / "old.pt", trained, name, None)
    images = torch.randn(2, *fitted.model.pretrained_cfg["input_size"])
    with torch.no_grad():
        torch.testing.assert_close(fitted.model(images), old(images), rtol=1e-4, atol=1e-4)
