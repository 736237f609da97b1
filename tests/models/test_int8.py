"""ONNX files with int8 weights: what is rounded, what is not, and what rounding leaves."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from imgcls.engine.scoring.backends import quiet
from imgcls.errors import ModelError
from imgcls.models.export.int8 import _rounded, quantization_of, quantize
from imgcls.models.export.onnx import open_onnx, write_onnx
from imgcls.models.export.profiles import TensorModel


class Layers(nn.Module):
    """A convolution without a bias, a depthwise one, linear layers over positions, a classifier."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.tokens = nn.Linear(8, 12)
        self.plain = nn.Linear(12, 12, bias=False)
        self.middle = nn.Linear(12, 16)
        self.classifier = nn.Linear(16, 4)

    def forward(self, images):
        found = self.depthwise(self.first(images).relu()).relu()
        found = self.plain(self.tokens(found.flatten(2).transpose(1, 2)).relu())
        return self.classifier(self.middle(found.mean(dim=1)).relu()).softmax(dim=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(in float32, in int8, the batches that it was calibrated on)."""
    folder = tmp_path_factory.mktemp("int8")
    torch.manual_seed(0)
    model = TensorModel(Layers().eval()).eval()
    batches = [torch.rand(4, 3, 8, 8).numpy() for _ in range(8)]
    source, target = folder / "fp32.onnx", folder / "int8.onnx"
    with quiet():
        write_onnx(model, torch.rand(2, 3, 8, 8), source, {})
        quantize(source, lambda: batches, target, {"labels": "a"})
    return source, target, batches


def dequantized(file):
    """What stands in place of each quantised tensor: {name: (values, scales, axis)}."""
    graph = onnx.load(file).graph
    values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    found = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in values:
            axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
            found[node.output[0]] = values[node.input[0]], values[node.input[1]], axis
    return found


def test_weights_are_int8_with_a_scale_for_each_channel(files):
    """Those of all layers but the classifier's; each as it was assumed for its bias.

    None uses the eighth bit: two products of such weights and bytes overflow 16 bits, in which
    processors without VNNI add them up.
    """
    source, target, _ = files
    plain = onnx.load(source).graph
    values = {one.name: numpy_helper.to_array(one) for one in plain.initializer}
    weights = [values[n.input[1]] for n in plain.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    found = dequantized(target)
    own = [n for n in onnx.load(target).graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(own) == len(weights) == 6
    for node, weight in zip(own[:-1], weights[:-1], strict=True):
        rounded, scales, axis = found[node.input[1]]
        assert rounded.dtype == np.int8
        assert 255 * 2 * np.abs(rounded.astype(int)).max() < 2**15
        assert scales.shape == (rounded.shape[axis],)
        assert len(scales) > 1
        shape = [1] * rounded.ndim
        shape[axis] = -1
        np.testing.assert_allclose(
            rounded * scales.reshape(shape), _rounded(weight, axis), atol=1e-6
        )
    assert own[-1].input[1] not in found


def test_probabilities_are_not_rounded(files):
    """The classifier and the softmax behind it stay in float32."""
    graph = onnx.load(files[1]).graph
    by_output = {node.output[0]: node for node in graph.node}
    softmax = next(node for node in graph.node if node.op_type == "Softmax")
    assert by_output[softmax.input[0]].op_type == "Gemm"
    assert graph.output[0].name == softmax.output[0]


def test_answers_stay_near_those_in_float32(files):
    """For batches of other sizes than the calibration's, too."""
    source, target, _ = files
    plain, int8 = open_onnx(source), open_onnx(target)
    for size in (1, 7):
        images = torch.rand(size, 3, 8, 8).numpy()
        np.testing.assert_allclose(int8(images), plain(images), atol=0.02)


def test_rounding_shifts_no_layer_on_average(files):
    """Each bias has what its own weights' rounding adds taken off, with one or without."""
    source, target, batches = files
    plain, rounded = onnx.load(source), dequantized(target)
    values = {one.name: numpy_helper.to_array(one) for one in plain.graph.initializer}
    node, own = (
        next(n for n in graph.node if n.op_type == "Conv")
        for graph in (plain.graph, onnx.load(target).graph)
    )
    images = torch.from_numpy(np.concatenate(batches))
    kernels, scales, _ = rounded[own.input[1]]
    bias, steps, _ = rounded[own.input[2]]
    with torch.no_grad():
        right = nn.functional.conv2d(images, torch.tensor(values[node.input[1]]), None, 2, 1)
        weights = torch.tensor(kernels * scales[:, None, None, None])
        without = nn.functional.conv2d(images, weights, None, 2, 1)
    shift = (without - right).mean(dim=(0, 2, 3)).numpy()
    assert np.abs(shift).max() > 1e-4
    np.testing.assert_allclose(bias * steps, -shift, atol=2e-5)


def test_a_file_says_how_it_was_made(files):
    """Beside the metadata that it was given."""
    found = quantization_of(files[1])
    assert found["calibration_pictures"] == 32
    assert found["int8_weights"] == 5
    assert {one.key for one in onnx.load(files[1]).metadata_props} == {"labels", "quantization"}


def test_a_model_without_weights_is_told(tmp_path):
    """And nothing is written."""
    with quiet():
        write_onnx(TensorModel(nn.Flatten()), torch.rand(2, 3, 4, 4), tmp_path / "a.onnx", {})
    with pytest.raises(ModelError, match="no convolution and no linear layer"):
        quantize(tmp_path / "a.onnx", list, tmp_path / "b.onnx", {})
    assert not (tmp_path / "b.onnx").exists()
