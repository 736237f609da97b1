"""Options reach the model, or are refused in one line."""

from __future__ import annotations

import os
import socket
import sys
import time

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import get_pretrained_cfg
from torch import nn

from imgcls.config.model import ModelConfig
from imgcls.errors import ModelError
from imgcls.models.architecture import goes_by_batch_norms, own_rates, takes_rate
from imgcls.models.build import (
    classifier_names,
    create_model,
    freeze_backbone,
    native_img_size,
    pretrained_cfg_of,
)
from imgcls.models.catalog.read import load_catalog
from imgcls.models.hub import check_can_be_had


def make(name="test_resnet", **options):
    return create_model(
        ModelConfig(name=name, **{"num_classes": 7, "pretrained": False, **options})
    )


@pytest.fixture
def no_hub(monkeypatch, tmp_path):
    """An empty hub cache in the returned folder, and a hub that refuses the connection."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "does"),
    [("test_resnet", True), ("tf_efficientnet_lite0", True), ("test_vit", False),
     ("test_convnext", False), ("test_efficientnet_gn", False), ("volo_d1_224", False),
     ("vit_base_mci_224", False)],
)  # fmt: skip
def test_networks_that_go_by_batch_norms_are_known(name, does):
    """By most of their layers, of which a transformer's normalise each picture alone."""
    assert goes_by_batch_norms(name) == does


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "mobilenetv3_small_050"])
def test_dropout_stands_in_front_of_the_classifier(name):
    """In training the same input scores differently; in evaluation it does not."""
    model = make(name, dropout=0.5)
    size = pretrained_cfg_of(model)["input_size"]
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


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        ("swin_tiny_patch4_window7_224", (0.0, 0.1)),
        ("rexnet_100", (0.2, 0.0)),
        ("ghostnet_050", (0.2, 0.0)),
        ("efficientformerv2_s0", (0.0, 0.0)),
        ("densenet121", (0.0, 0.0)),
        ("test_vit", (0.0, 0.0)),
    ],
)
def test_a_rate_of_zero_is_one_and_auto_is_the_architectures_own(name, rates):
    """What holds in the layers, for architectures whose own rate is not 0, or that have none."""
    assert own_rates(name) == rates
    assert not any(rate_of(make(name, dropout=0.0, drop_path_rate=0.0)))
    assert rate_of(make(name)) == pytest.approx(rates, abs=1e-6)


@pytest.mark.parametrize(
    ("option", "flag"), [("dropout", "--dropout"), ("drop_path_rate", "--drop-path-rate")]
)
def test_a_rate_that_timm_takes_and_puts_nowhere_is_refused(option, flag, monkeypatch):
    """As for a rate that it does not take; what was not asked for is no error."""
    original = timm.models.model_entrypoint("test_byobnet")

    def deaf(pretrained=False, drop_rate=0.0, drop_path_rate=0.0, **options):
        return original(pretrained, **options)

    monkeypatch.setitem(timm.models._registry._model_entrypoints, "test_byobnet", deaf)
    takes_rate.cache_clear()
    try:
        with pytest.raises(ModelError, match=f"test_byobnet: does not take {flag}; leave it out"):
            make("test_byobnet", **{option: 0.1})
        make("test_byobnet", **{option: 0.0})
        make("test_byobnet")
    finally:
        takes_rate.cache_clear()


def test_real_architectures_that_take_a_rate_keep_it_and_others_refuse():
    """In modules, in an attribute of the model, in both; an encoder's dropout has no place."""
    for name in ("test_resnet", "test_vit", "swin_tiny_patch4_window7_224", "efficientnet_b0"):
        assert takes_rate(name, "drop_rate")
        assert takes_rate(name, "drop_path_rate")
    assert not takes_rate("qwen3_vit_88m_enc", "drop_rate")
    assert takes_rate("densenet121", "drop_rate")
    with pytest.raises(TypeError):
        takes_rate("densenet121", "drop_path_rate")
    # a small rate as well as a half, and a classifier that drops by it
    assert make("efficientnet_b0", dropout=1e-3, drop_path_rate=1e-3).drop_rate == 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("option", ["drop_rate", "drop_path_rate"])
def test_no_family_is_refused_a_rate_that_it_keeps(option):
    """One architecture of each of timm's modules; only encoders take a rate and have no place."""
    for module in timm.list_modules():
        names = [name for name in timm.list_models(module=module) if not name.endswith("_enc")]
        names.sort(key=lambda name: load_catalog()[name].parameters)
        try:
            assert not names or takes_rate(names[0], option), names[0]
        except TypeError:
            continue


def rate_of(model):
    dropout = getattr(model, "drop_rate", 0.0)
    paths = [m.drop_prob or 0.0 for m in model.modules() if type(m).__name__ == "DropPath"]
    return float(dropout), float(max(paths, default=0.0))


def test_freezing_leaves_the_classifier_alone():
    """Only the classifier's parameters are trained."""
    model = make(freeze_backbone=True)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"fc.weight", "fc.bias"}
    trained = model.get_num_trainable_params()
    assert trained == 96 * 7 + 7 < model.get_num_total_params()


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
    assert pretrained_cfg_of(make(img_size=96))["input_size"] == (3, 96, 96)
    assert pretrained_cfg_of(make())["input_size"] == (3, 160, 160)
    assert native_img_size("test_resnet") == 160


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "resnet19"}, ["no such model", "resnet18", "list-models"]),
        ({"name": "densenet121", "drop_path_rate": 0.1}, ["does not take --drop-path-rate"]),
        ({"name": "efficientnet_b7", "pretrained": True}, ["no pretrained weights"]),
        ({"name": "efficientnetv2_s", "pretrained": True}, ["such as tf_efficientnetv2_s"]),
        ({"name": "resnet18.nope"}, ["no weights tagged 'nope'", "a1_in1k"]),
        ({"name": "qwen3_vit_88m_enc"}, ["without a classifier"]),
        ({"name": "twins_pcpvt_small", "img_size": 100}, ["--img-size 100", "its own is 224"]),
        ({"name": "test_vit", "img_size": 15}, ["--img-size 15", "its own is 160"]),
        ({"name": "vgg11", "img_size": 16}, ["--img-size 16", "too small"]),
        ({"name": "levit_128", "img_size": 100}, ["--img-size 100", "its own is 224"]),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_line(options, words):
    """The model's name and what to do."""
    with pytest.raises(ModelError) as caught:
        make(**options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 400
    for word in [options["name"], *words]:
        assert word in message


@pytest.mark.filterwarnings("ignore:CSATv2")
def test_channels_that_an_architecture_cannot_take_are_refused():
    """One that is built for three alone; found by a first picture, not in the first epoch."""
    with pytest.raises(ModelError, match=r"csatv2: does not take --in-chans 1 \("):
        make("csatv2", in_chans=1)
    assert make("test_vit", in_chans=1, img_size=96).training


def test_an_unreachable_hub_is_said_in_seconds(no_hub):
    """No retry storm: one question to the hub, then one line with both ways out."""
    from huggingface_hub import constants

    start = time.monotonic()
    with pytest.raises(ModelError, match=r"--weights FILE, or --no-pretrained"):
        make("resnet18", pretrained=True)
    assert time.monotonic() - start < 20  # its own client takes three quarters of a minute
    assert constants.HF_HUB_OFFLINE is False
    assert socket.getdefaulttimeout() is None


def test_checking_a_size_leaves_no_trace():
    """The model is in training mode, its statistics and the random state as if not looked at."""
    torch.manual_seed(0)
    plain = make()
    state = torch.get_rng_state()
    torch.manual_seed(0)
    checked = make(img_size=64)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in checked.modules())
    for key, value in plain.state_dict().items():
        assert torch.equal(value, checked.state_dict()[key]), key


def test_a_suggestion_needs_no_catalogue(monkeypatch):
    """A wrong name is answered at once, also with a timm whose catalogue is not made yet."""
    from imgcls.models.catalog import read as catalog

    monkeypatch.setattr(catalog, "load_catalog", lambda: pytest.fail("the catalogue was read"))
    with pytest.raises(ModelError, match="resnet18"):
        make("resnet19")


def put_in_cache(folder, name, write):
    """The folder as the hub's client leaves it after a download."""
    repo = folder / ("models--" + get_pretrained_cfg(name).hf_hub_id.replace("/", "--"))
    snapshot = repo / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("0" * 40)
    write(snapshot / "model.safetensors")


def test_cached_weights_work_without_the_hub(no_hub):
    """What was downloaded once is used; only the classifier is new."""
    source = timm.create_model("test_resnet")
    put_in_cache(no_hub, "test_resnet", lambda file: save_file(source.state_dict(), file))
    model = make(pretrained=True)
    for key, value in model.state_dict().items():
        if not key.startswith("fc."):
            assert torch.equal(value, source.state_dict()[key]), key
    assert model.fc.weight.shape[0] == 7


def test_without_a_word_a_model_has_its_pretrained_weights(no_hub):
    """As the option says: auto means yes for pictures; a model without any is refused."""
    source = timm.create_model("test_resnet")
    put_in_cache(no_hub, "test_resnet", lambda file: save_file(source.state_dict(), file))
    model = create_model(ModelConfig(name="test_resnet"))
    assert torch.equal(model.state_dict()["conv1.0.weight"], source.state_dict()["conv1.0.weight"])
    with pytest.raises(ModelError, match="no pretrained weights"):
        create_model(ModelConfig(name="efficientnet_b7"))


@pytest.mark.parametrize("cached", [True, False])
def test_a_proxy_that_the_client_cannot_use_stops_no_cached_weights(no_hub, monkeypatch, cached):
    """A SOCKS proxy without the package for it: what is here is used, what is not names why."""
    from huggingface_hub import close_session

    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setitem(sys.modules, "socksio", None)
    close_session()
    if cached:
        source = timm.create_model("test_resnet")
        put_in_cache(no_hub, "test_resnet", lambda file: save_file(source.state_dict(), file))
        assert make(pretrained=True).fc.weight.shape[0] == 7
    else:
        with pytest.raises(ModelError, match=r"cannot be reached \(.*SOCKS.*--weights FILE"):
            make(pretrained=True)
    assert os.environ["ALL_PROXY"] == "socks5://127.0.0.1:1080"
    close_session()


def test_weights_that_cannot_be_had_are_told_without_fetching_them(no_hub):
    """For the plan: what is cached or can be asked for passes, the rest is one line."""
    with pytest.raises(ModelError, match="cannot be reached"):
        check_can_be_had("test_resnet")
    put_in_cache(no_hub, "test_resnet", lambda file: file.write_bytes(b"here"))
    check_can_be_had("test_resnet")


def test_damaged_cached_weights_are_said(no_hub):
    """Not that the hub is away: the file is there and cannot be loaded."""
    put_in_cache(no_hub, "test_resnet", lambda file: file.write_bytes(b"half a fi"))
    with pytest.raises(ModelError, match=r"cannot be loaded \(.*--weights FILE"):
        make(pretrained=True)


def test_many_heads_are_all_the_classifier():
    """crossvit has two branches with a head each: both are new, both stay trainable."""
    model = make("crossvit_tiny_240", freeze_backbone=True)
    assert classifier_names(model) == ("head.0", "head.1")
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained == {"head.0.weight", "head.0.bias", "head.1.weight", "head.1.bias"}


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "mobilenetv3_small_050"])
def test_a_frozen_backbone_gets_no_gradients(name):
    """After a backward pass only the classifier has some."""
    model = make(name, freeze_backbone=True)
    model(torch.randn(2, *pretrained_cfg_of(model)["input_size"])).sum().backward()
    with_gradients = {
        n.rpartition(".")[0] for n, p in model.named_parameters() if p.grad is not None
    }
    assert with_gradients == set(classifier_names(model))
