"""What runs a model beside torch: its extra, what it cannot do, and torch's own logits."""

from __future__ import annotations

import importlib.util

import pytest
import timm
import torch

from imgcls.engine.device.batches import ComputeSettings
from imgcls.errors import ConfigError, DeviceError
from imgcls.jobs.backends import check_backend, make_runner

CPU = torch.device("cpu")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_another_runtime_gives_torchs_logits(backend):
    """In fp32, to rounding; attention is what exporters fail at."""
    model = timm.create_model("test_vit").eval()
    images = torch.randn(2, *model.pretrained_cfg["input_size"])
    logits = make_runner(backend, model, images, ComputeSettings(CPU))(images)
    with torch.inference_mode():
        torch.testing.assert_close(logits, model(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("backend", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_a_missing_extra_is_one_line_that_can_be_typed(backend, extra, monkeypatch):
    """What to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=rf'pip install "imgcls\[{extra}\]"'):
        check_backend(backend, ComputeSettings(CPU))


def test_what_a_runtime_cannot_do_is_said():
    """bf16 by ONNX Runtime on a CPU, and both of them on a GPU."""
    with pytest.raises(DeviceError, match="fp32 on a CPU, not in bf16"):
        check_backend("onnxruntime", ComputeSettings(CPU, torch.bfloat16))
    with pytest.raises(DeviceError, match="add --device cpu"):
        check_backend("openvino", ComputeSettings(torch.device("cuda")))
