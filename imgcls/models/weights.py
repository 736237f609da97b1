"""Weights from a file the user has, for everything but the classifier."""

from __future__ import annotations

import contextlib
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from timm.models import adapt_input_conv
from torch import nn

from imgcls.errors import ModelError
from imgcls.models.catalog.read import load_catalog
from imgcls.models.foreign import ForeignFileError, read_foreign, why_no_weights

_RGB = 3
# where trainers keep the weights beside their own state; an average of them comes first, as in timm
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")
# a counter that files from before PyTorch 0.4.1, torchvision's among them, do not hold
_OPTIONAL = ".num_batches_tracked"
# weights, averages and moments of an optimizer, with room for more
_MOST_COPIES, _ROOM_BYTES = 24, 256 * 2**20


def load_backbone(model: nn.Module, path: Path, classifier: tuple[str, ...]) -> str:
    """Load all tensors but the classifier's into the model; returns what was taken, in words.

    path: a safetensors file, a PyTorch state dict or a trainer's checkpoint with one inside (read
    without running code), or a folder with model.safetensors. classifier: names of the
    classifier's layers. Raises ModelError when the file cannot be read or a tensor is missing,
    unexpected, of another shape or holds inf or nan, naming the first.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    prefixes = tuple(f"{name}." for name in classifier)
    own = {k: v for k, v in model.state_dict().items() if not k.startswith(prefixes)}
    read, wrappers = _read(file)
    fitting, prefix = _fit(read, model, own)
    weights = _with_channels(fitting, model, own)
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
    for key, value in given.items():
        if (reason := why_no_weights(value, own[key])) is not None:
            raise ModelError(f"--weights {path}: {key} {reason}")
    broken = [
        k
        for k, v in given.items()
        if v.is_floating_point() and not v.to(own[k].dtype).isfinite().all()
    ]
    if broken:
        raise ModelError(
            f"--weights {path}: {broken[0]}{_more(broken)} holds inf or nan, as a training that "
            "diverged leaves it; give another file"
        )
    model.load_state_dict(given, strict=False)
    inside = f" of {'.'.join(wrappers)}" if wrappers else ""
    without = f" under the prefix {prefix}" if prefix else ""
    return f"{len(given)} tensors{inside}{without}"


def check_size(file: Path, name: str | None, free_bytes: float) -> None:
    """Raise ModelError for a file that is larger than memory, or far larger than the model's.

    name: of the model, None where the file is to say it. free_bytes: what memory there is.
    """
    entry = None if name is None else load_catalog().get(name.partition(".")[0])
    size = file.stat().st_size if file.is_file() else 0
    if size > free_bytes:
        raise ModelError(
            f"{file}: has {size / 2**20:,.0f} MiB, and {free_bytes / 2**20:,.0f} MiB of memory "
            "are free; save its weights alone, or import it where there is more"
        )
    if entry is not None and size > (most := 4 * entry.parameters * _MOST_COPIES + _ROOM_BYTES):
        raise ModelError(
            f"{file}: has {size / 2**20:,.0f} MiB, where a training of {name} leaves no more than "
            f"{most / 2**20:,.0f}; is it another --model, or another file?"
        )


@contextlib.contextmanager
def quiet_resizing() -> Iterator[None]:
    """Without torch's warnings on how timm interpolates the tables that depend on the size."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"timm\.layers\.interpolate")
        yield


def _read(file: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The named tensors in a file, and the names of the wrappers that they lay in."""
    try:
        content = read_foreign(file)
    except FileNotFoundError:
        found = sorted(file.parent.glob("fold_*/checkpoints/step-*/model.safetensors"))
        hint = f"; give a checkpoint of the run, such as {found[-1].parent}" if found else ""
        raise ModelError(f"--weights {file}: no such file{hint}") from None
    except ForeignFileError as error:
        raise ModelError(f"--weights {file}: {error}") from error
    wrappers: list[str] = []
    # one that holds itself would be opened for ever
    while isinstance(content, dict) and len(wrappers) < len(_WRAPPERS):
        inner = next((w for w in _WRAPPERS if isinstance(content.get(w), dict)), None)
        if inner is None:
            break
        wrappers.append(inner)
        content = content[inner]
    if not isinstance(content, dict) or not all(isinstance(k, str) for k in content):
        raise ModelError(f"--weights {file}: is not a state dict of named tensors")
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not tensors:
        has = ", ".join(sorted(content)[:8])
        raise ModelError(
            f"--weights {file}: has no state dict of named tensors, at its top or under "
            f"{', '.join(_WRAPPERS)}; it has {has or 'nothing'}"
        )
    for name, value in tensors.items():
        if (reason := why_no_weights(value)) is not None:
            raise ModelError(f"--weights {file}: {name} {reason}")
    return tensors, tuple(wrappers)


def _fit(
    weights: dict[str, torch.Tensor], model: nn.Module, own: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], str]:
    """The tensors as the model has them, and the prefix that was taken off their names.

    timm's converter is applied too: it knows the publisher's names, and resizes what depends on
    the input size.
    """
    weights, prefix = _without_prefixes(weights, own)
    if all(k in weights and weights[k].shape == v.shape for k, v in own.items()):
        return weights, prefix
    convert = timms_converter(model)
    if convert is None:
        return weights, prefix
    try:
        with quiet_resizing():
            converted: dict[str, torch.Tensor] = convert(dict(weights), model)
    except (KeyError, AttributeError, IndexError, TypeError, RuntimeError, ValueError):
        return weights, prefix  # not that publisher's names either: say what differs
    return converted, prefix


def timms_converter(model: nn.Module) -> Callable[[dict[str, torch.Tensor], nn.Module], Any] | None:
    """Timm's function from a publisher's tensors to the model's; None for families without one.

    It lies beside the model's class under the name that all families give it.
    """
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    takes_model = convert is not None and len(inspect.signature(convert).parameters) > 1
    return convert if takes_model else None


def _with_channels(
    weights: dict[str, torch.Tensor], model: nn.Module, own: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The first layer's weights for RGB turned into ones for the model's channels."""
    layers = model.pretrained_cfg.get("first_conv")  # type: ignore[union-attr, operator]
    adapted = {}
    for layer in (layers,) if isinstance(layers, str) else layers or ():
        key = f"{layer}.weight"
        if key in own and key in weights and _is_of_rgb(weights[key], own[key]):
            adapted[key] = adapt_input_conv(own[key].shape[1], weights[key])
    return {**weights, **adapted}


def _is_of_rgb(given: torch.Tensor, own: torch.Tensor) -> bool:
    """True for a first layer of RGB where the model has other channels."""
    return given.ndim == own.ndim > 1 and own.shape[1] != given.shape[1] == _RGB


def _without_prefixes(
    weights: dict[str, torch.Tensor], own: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], str]:
    # a model inside another one, or beside a criterion: all its names stand behind one prefix
    wanted = [key for key in own if not key.endswith(_OPTIONAL)]
    for key in weights:
        prefix = key.removesuffix(wanted[0])
        if prefix != key and all(prefix + name in weights for name in wanted):
            inner = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            return inner, prefix
    # a publisher's names, that only timm's converter knows; wrappers nest in any order:
    # distributed around compiled, or the other way round
    taken = ""
    while weights and not own.keys() & weights.keys():
        found = next((p for p in _PREFIXES if all(key.startswith(p) for key in weights)), None)
        if found is None:
            break
        taken += found
        weights = {key.removeprefix(found): value for key, value in weights.items()}
    return weights, taken


def _more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
