"""Weights from a file the user has, for everything but the classifier."""

from __future__ import annotations

import contextlib
import inspect
import pickle
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import nn

from imgcls.errors import ModelError

_RGB = 3
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")
# a counter that files from before PyTorch 0.4.1, torchvision's among them, do not hold
_OPTIONAL = ".num_batches_tracked"


def load_backbone(model: nn.Module, path: Path, classifier: tuple[str, ...]) -> int:
    """Load all tensors but the classifier's into the model; returns how many.

    path: a safetensors file, a PyTorch state dict (read without running code), or a folder with
    model.safetensors. classifier: names of the classifier's layers.
    Raises ModelError when the file cannot be read or a tensor is missing, unexpected or of another
    shape, naming the first.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    prefixes = tuple(f"{name}." for name in classifier)
    own = {k: v for k, v in model.state_dict().items() if not k.startswith(prefixes)}
    weights = _with_channels(_fit(_read(file), model, own), model, own)
    given = {k: v for k, v in weights.items() if not k.startswith(prefixes)}
    missing = [k for k in own if k not in given and not k.endswith(_OPTIONAL)]
    unexpected = [k for k in given if k not in own]
    reshaped = [k for k in own if k in given and own[k].shape != given[k].shape]
    if reshaped:
        key = reshaped[0]
        raise ModelError(
            f"--weights {path}: {key} is {list(given[key].shape)} in the file and "
            f"{list(own[key].shape)} in the model{_more(reshaped)}; is it another --model?"
        )
    if missing or unexpected:
        problems = [f"lacks {missing[0]}{_more(missing)}"] if missing else []
        if unexpected:
            problems.append(f"has {unexpected[0]}{_more(unexpected)}, which the model has not")
        raise ModelError(f"--weights {path}: {' and '.join(problems)}; is it another --model?")
    model.load_state_dict(given, strict=False)
    return len(given)


@contextlib.contextmanager
def quiet_resizing() -> Iterator[None]:
    """Without torch's warnings on how timm interpolates the tables that depend on the size."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"timm\.layers\.interpolate")
        yield


def _read(file: Path) -> dict[str, torch.Tensor]:
    try:
        if file.suffix == ".safetensors":
            return dict(load_file(file))
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"--weights {file}: no such file") from None
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"--weights {file}: holds more than tensors, or is damaged; only plain state dicts "
            "are read, because anything else could run code"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"--weights {file}: is damaged, or neither a safetensors file nor a PyTorch state "
            f"dict ({type(error).__name__}: {reason})"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items()
    ):
        raise ModelError(f"--weights {file}: is not a state dict of named tensors")
    return content


def _fit(
    weights: dict[str, torch.Tensor], model: nn.Module, own: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The tensors as the model has them: wrappers' prefixes off, timm's converter applied.

    The converter knows the publisher's names, and resizes what depends on the input size.
    """
    weights = _without_prefixes(weights, own)
    if all(k in weights and weights[k].shape == v.shape for k, v in own.items()):
        return weights
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None or len(inspect.signature(convert).parameters) < 2:  # noqa: PLR2004
        return weights
    try:
        with quiet_resizing():
            converted: dict[str, torch.Tensor] = convert(dict(weights), model)
    except (KeyError, AttributeError, IndexError, TypeError, RuntimeError, ValueError):
        return weights  # not that publisher's names either: say what differs
    return converted


def _with_channels(
    weights: dict[str, torch.Tensor], model: nn.Module, own: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The first layer's weights for RGB turned into ones for the model's channels."""
    layers = model.pretrained_cfg.get("first_conv")  # type: ignore[union-attr, operator]
    adapted = {}
    for layer in (layers,) if isinstance(layers, str) else layers or ():
        key = f"{layer}.weight"
        if key in own and key in weights and own[key].shape[1] != weights[key].shape[1] == _RGB:
            adapted[key] = adapt_input_conv(own[key].shape[1], weights[key])
    return {**weights, **adapted}


def _without_prefixes(
    weights: dict[str, torch.Tensor], own: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    # wrappers nest in any order: distributed around compiled, or the other way round
    while weights and not own.keys() & weights.keys():
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in weights)), None)
        if prefix is None:
            break
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}
    return weights


def _more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
