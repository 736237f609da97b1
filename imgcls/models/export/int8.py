"""An ONNX file with weights and activations in 8 bits, for machines without a GPU.

Static quantisation by onnxruntime: a scale for each output channel of the weights (int8), and one
for each activation (uint8), from its range over calibration pictures. In QDQ form, which other
runtimes read, too.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imgcls.errors import ModelError
from imgcls.storage.durable import TEMPORARY_PREFIX

# of symmetric weights of 7 bits, as onnxruntime has them
_MOST = 64
# of a protobuf in one piece
_LARGEST_BYTES = 2**31 - 2**24
_WEIGHTED = ("Conv", "Gemm", "MatMul")
# what hands 8 bits on between them at no loss to speak of
_BETWEEN = (
    "Add", "AveragePool", "Clip", "Concat", "Flatten", "GlobalAveragePool", "LeakyRelu", "MaxPool",
    "Pad", "Relu", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip

_PROPERTY = "quantization"

# each time anew, batches as the file takes them
Batches = Callable[[], Iterable[np.ndarray]]


def quantize(source: Path, batches: Batches, target: Path, metadata: Mapping[str, str]) -> None:
    """Write the ONNX file `source` with int8 weights as `target`.

    batches: calibration pictures, gone through twice. metadata: becomes metadata_props, and
    `quantization` beside it; see `quantization_of`.

    Weights use 7 of the 8 bits: processors without VNNI (Intel's before 2019, AMD's before Zen 4)
    add up in 16 bits, which 8 overflow, and would answer otherwise than the one that the file was
    proven on.

    What each weight's rounding adds to its outputs on average over the calibration pictures is
    taken off its bias: empirical bias correction, Nagel and others, "Data-Free Quantization
    Through Weight Equalization and Bias Correction" (2019), with which most of the loss of
    depthwise convolutions goes.

    Raises ModelError for a model without weights to quantise and one of more than 2 GB; onnx and
    onnxruntime raise errors of their own.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType
    from onnxruntime.quantization.quantize import quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The batches, one at a time."""

        def __init__(self) -> None:
            self._feeds = _feeds(model, batches())

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    if source.stat().st_size + _beside(source) > _LARGEST_BYTES:
        raise ModelError("int8 is for models of up to 2 GB of weights in float32; this is larger")
    model = onnx.load(source)
    weighted = _weighted(model)
    if not weighted:
        raise ModelError("this model has no convolution and no linear layer to quantise")
    pictures = _correct_biases(model, weighted, batches)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=TEMPORARY_PREFIX) as folder:
        corrected = Path(folder) / "corrected.onnx"
        onnx.save(model, corrected)
        quantize_static(
            corrected,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=[*_WEIGHTED, *_BETWEEN],
            nodes_to_exclude=_excluded(model, weighted),
            extra_options={"MatMulConstBOnly": True},
        )
    written = onnx.load(target)
    int8 = onnx.TensorProto.INT8
    known = {
        "weights": "int8 of 7 bits, a scale for each output channel, as QDQ",
        "activations": "uint8",
        "int8_weights": sum(
            one.data_type == int8 and len(one.dims) > 1 for one in written.graph.initializer
        ),
        "calibration_pictures": pictures,
    }
    del written.metadata_props[:]
    onnx.helper.set_model_props(written, {**metadata, _PROPERTY: json.dumps(known)})
    onnx.save(written, target)


def quantization_of(file: Path) -> dict[str, Any]:
    """How a file of `quantize` was made: int8_weights, calibration_pictures and the rest."""
    import onnx

    props = {one.key: one.value for one in onnx.load(file).metadata_props}
    found: dict[str, Any] = json.loads(props[_PROPERTY])
    return found


def _beside(source: Path) -> int:
    data = source.with_name(f"{source.name}.data")
    return data.stat().st_size if data.exists() else 0


def _feeds(model: Any, batches: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    name = model.graph.input[0].name
    return ({name: batch} for batch in batches)


def _weighted(model: Any) -> list[Any]:
    """The nodes that multiply by fixed weights, in the order in which they are computed."""
    fixed = {one.name for one in model.graph.initializer}
    nodes = (node for node in model.graph.node if node.op_type in _WEIGHTED)
    return [node for node in nodes if node.input[1] in fixed]


def _excluded(model: Any, weighted: list[Any]) -> list[str]:
    """The nodes that stay in float32: all before the first weights and behind the last.

    Those are a picture's preparation, in which a level is a level, and the softmax. The classifier
    itself, too, whose scores would take few values, so that classes would be equally likely.
    """
    nodes = list(model.graph.node)
    behind = _reached(nodes, {name for node in weighted for name in node.output}, forwards=True)
    before = _reached(nodes, {name for node in weighted for name in node.input}, forwards=False)
    mine = {node.name for node in weighted[:-1]}
    return [n.name for n in nodes if n.name not in mine and n.name not in behind & before]


def _reached(nodes: list[Any], tensors: set[str], *, forwards: bool) -> set[str]:
    """The names of the nodes that the tensors lead to, or that lead to them."""
    known, found = set(tensors), set()
    for node in nodes if forwards else reversed(nodes):
        come, go = (node.input, node.output) if forwards else (node.output, node.input)
        if known.intersection(come):
            known.update(go)
            found.add(node.name)
    return found


def _correct_biases(model: Any, weighted: list[Any], batches: Batches) -> int:
    """Take off each bias what the rounding of its weights adds on average, by output channel.

    Gives over how many pictures.
    """
    from onnx import numpy_helper

    values = {one.name: one for one in model.graph.initializer}
    shifts, pictures = _shifts(model, weighted, values, batches)
    uses: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            uses.setdefault(name, []).append(node)
    for index, (node, shift) in enumerate(zip(weighted, shifts, strict=True)):
        place = _bias_of(node, uses, values)
        if place is None:
            continue
        holder, position = place
        bias = numpy_helper.to_array(values[holder.input[position]]) if position >= 0 else 0.0
        # under a name of its own, since others may have the same bias
        name = f"corrected_bias_{index}"
        model.graph.initializer.append(
            numpy_helper.from_array((bias - shift).astype(np.float32), name)
        )
        if position >= 0:
            holder.input[position] = name
        else:
            holder.input.append(name)
    used = {name for node in model.graph.node for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return pictures


def _shifts(
    model: Any, weighted: list[Any], values: Mapping[str, Any], batches: Batches
) -> tuple[list[np.ndarray], int]:
    """(what each node gives on average by its weights' rounding alone, over how many pictures).

    float64 [channels] for each node.

    Computed by a copy of each node whose weights are those errors, from the unrounded inputs.
    """
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    graph = probe.graph
    names = [f"shift_{index}" for index in range(len(weighted))]
    for name, node in zip(names, weighted, strict=True):
        weights = numpy_helper.to_array(values[node.input[1]])
        error = _rounded(weights, _channel_axis(node)) - weights
        graph.initializer.append(numpy_helper.from_array(error, f"{name}_weights"))
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.name = copy.output[0] = f"{name}_all"
        copy.input[:] = [node.input[0], f"{name}_weights"]
        channels = weights.shape[_channel_axis(node)]
        if node.op_type == "Conv":
            shape, axes = [0, channels, -1], [0, 2]
        else:
            shape, axes = [-1, channels], [0]
        for what, value in (("shape", shape), ("axes", axes)):
            graph.initializer.append(numpy_helper.from_array(np.array(value), f"{name}_{what}"))
        graph.node.extend(
            (
                copy,
                helper.make_node("Reshape", [copy.output[0], f"{name}_shape"], [f"{name}_rows"]),
                helper.make_node(
                    "ReduceMean", [f"{name}_rows", f"{name}_axes"], [name], keepdims=0
                ),
            )
        )
        graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        probe.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    totals = [np.zeros(1) for _ in names]
    pictures = 0
    for feed in _feeds(model, batches()):
        [images] = feed.values()
        pictures += len(images)
        found = session.run(names, feed)
        totals = [
            t + len(images) * f.astype(np.float64) for t, f in zip(totals, found, strict=True)
        ]
    return [total / pictures for total in totals], pictures


def _channel_axis(node: Any) -> int:
    """The axis of a node's weights along which each has its own scale: the output channels."""
    if node.op_type == "Conv":
        return 0
    transposed = any(one.name == "transB" and one.i for one in node.attribute)
    return 0 if transposed else 1


def _rounded(weights: np.ndarray, axis: int) -> np.ndarray:
    """The weights as int8 has them: rounded to 1/64 of the largest of each channel."""
    others = tuple(other for other in range(weights.ndim) if other != axis)
    scales = np.abs(weights).max(axis=others, keepdims=True) / _MOST
    scales = np.where(scales < np.finfo(np.float32).tiny, 1.0, scales)
    rounded: np.ndarray = (np.rint(weights / scales) * scales).astype(weights.dtype)
    return rounded


def _bias_of(
    node: Any, uses: Mapping[str, list[Any]], values: Mapping[str, Any]
) -> tuple[Any, int] | None:
    """(the node that adds a weighted one's bias, as which input), -1 for one to be added."""
    if node.op_type != "MatMul":
        if len(node.input) > 2 and node.input[2]:  # noqa: PLR2004
            return (node, 2) if node.input[2] in values else None
        return node, -1
    takers = uses.get(node.output[0], [])
    if len(takers) != 1 or takers[0].op_type != "Add":
        return None
    for position, name in enumerate(takers[0].input):
        if name in values and len(values[name].dims) == 1:
            return takers[0], position
    return None
