"""State trees as plain JSON and named tensors, and back, exactly.

JSON types stand for themselves. Everything else is a one-key object whose key starts with `$`:

    {"$tensor": "<key>", "dtype": "float32", "shape": [2], "layout": ...}
    {"$tuple": [...]}      {"$dict": [[key, value], ...]}   {"$set": [...]}
    {"$float": "inf"}      {"$dtype": "float32"}            {"$device": "cpu"}
    {"$ndarray": <tensor leaf>}

A dict whose keys are all strings without a leading `$` is a plain object; any other is a `$dict`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from imgcls.engine.device.divided import copy_to_cpu
from imgcls.errors import CheckpointError

_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in vars(torch).values()
    if isinstance(dtype, torch.dtype)
}


def encode_tree(  # noqa: C901, PLR0911  one line a type reads best as one list
    value: Any, tensors: dict[str, torch.Tensor], path: str
) -> Any:
    """The value as strict-JSON types; its tensors are put into `tensors` under keys below `path`.

    Tensors are copied to the CPU, so later changes to the originals do not reach the encoding;
    those that are divided among processes are brought together, see `copy_to_cpu`.
    Raises TypeError for a type that has no encoding: a part with such state needs its own
    `state_dict`.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if type(value) is int:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, torch.Tensor):
        return _encode_tensor(value, tensors, path)
    if isinstance(value, np.ndarray):
        return {"$ndarray": _encode_tensor(torch.from_numpy(value.copy()), tensors, path)}
    if isinstance(value, np.generic):
        return encode_tree(value.item(), tensors, path)
    if isinstance(value, Mapping):
        return _encode_mapping(value, tensors, path)
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [encode_tree(item, tensors, f"{path}.{i}") for i, item in enumerate(value)]
        if isinstance(value, list):
            return items
        return {"$tuple": items} if isinstance(value, tuple) else {"$set": items}
    if isinstance(value, torch.dtype):
        return {"$dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"$device": str(value)}
    raise TypeError(f"{path}: no encoding for {type(value).__name__}")


def _encode_mapping(
    value: Mapping[Any, Any], tensors: dict[str, torch.Tensor], path: str
) -> dict[str, Any]:
    encoded = {key: encode_tree(item, tensors, f"{path}.{key}") for key, item in value.items()}
    if all(isinstance(key, str) and not key.startswith("$") for key in encoded):
        return encoded
    return {
        "$dict": [[encode_tree(key, tensors, path), item] for key, item in encoded.items()],
    }


def _encode_tensor(
    value: torch.Tensor, tensors: dict[str, torch.Tensor], path: str
) -> dict[str, Any]:
    # the layout decides the order in which later sums run, hence the last bits of a norm
    channels_last = (
        value.dim() == 4  # noqa: PLR2004  N, C, H, W
        and not value.is_contiguous()
        and value.is_contiguous(memory_format=torch.channels_last)
    )
    key, number = path, 1
    while key in tensors:
        number += 1
        key = f"{path}#{number}"
    tensors[key] = copy_to_cpu(value).contiguous()
    return {
        "$tensor": key,
        "dtype": str(value.dtype).removeprefix("torch."),
        "shape": list(value.shape),
        "layout": "channels_last" if channels_last else "contiguous",
    }


def decode_tree(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """The value that `encode_tree` was given, bit for bit.

    Raises CheckpointError when a named tensor is missing, differs in dtype or shape from what the
    tree says, or an encoding is unknown.
    """
    if isinstance(value, list):
        return [decode_tree(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    tag = next((key for key in value if key.startswith("$")), None)
    if tag is None:
        return {key: decode_tree(item, tensors) for key, item in value.items()}
    try:
        return _decode_tagged(tag, value, tensors)
    except (TypeError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint.json: cannot read a {tag} entry: {error!r}") from error


def _decode_tagged(  # noqa: PLR0911  the mirror of encode_tree
    tag: str, value: dict[str, Any], tensors: Mapping[str, torch.Tensor]
) -> Any:
    inner = value[tag]
    match tag:
        case "$tensor":
            return _decode_tensor(value, tensors)
        case "$tuple":
            return tuple(decode_tree(item, tensors) for item in inner)
        case "$set":
            return {decode_tree(item, tensors) for item in inner}
        case "$dict":
            return {decode_tree(key, tensors): decode_tree(item, tensors) for key, item in inner}
        case "$float":
            return float(inner)
        case "$dtype":
            return _DTYPES[inner]
        case "$device":
            return torch.device(inner)
        case "$ndarray":
            return _decode_tensor(inner, tensors).numpy()
        case _:
            raise CheckpointError(f"checkpoint.json: unknown entry {tag}")


def _decode_tensor(leaf: dict[str, Any], tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    key = leaf["$tensor"]
    if key not in tensors:
        raise CheckpointError(f"state.safetensors: tensor {key} is missing")
    tensor = tensors[key]
    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype != leaf["dtype"] or list(tensor.shape) != leaf["shape"]:
        raise CheckpointError(
            f"state.safetensors: tensor {key} is {dtype} {list(tensor.shape)}, the sidecar says "
            f"{leaf['dtype']} {leaf['shape']}"
        )
    if leaf["layout"] == "channels_last":
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor
