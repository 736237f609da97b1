"""What another trainer saved, by its layout: weights, averages, and the rest of its training."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch

from imgcls.errors import ModelError
from imgcls.models.foreign import ForeignFileError, calls_in, read_foreign, why_no_weights

_WEIGHTS = ("model_state_dict", "state_dict", "model_state", "model", "weights")
_AVERAGES = ("state_dict_ema", "ema_state_dict", "model_ema_state_dict", "model_ema", "ema")
_NAMES = ("class_names", "classes", "label_names", "labels")
_WRAPPED = ("module.", "_orig_mod.")
# far from what a checkpoint's metadata may need
_MOST_NAMES = 100_000
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Trained:
    """What a file holds of a training.

    layout: whose it is, in words. weights: to be used, the average where there is one; raw: those
    that were trained, None where these are `weights`. epochs: how many are behind it; None where
    the file does not say. settings: what the trainer was told, as far as it is plain.
    """

    layout: str
    weights: dict[str, torch.Tensor]
    raw: dict[str, torch.Tensor] | None = None
    epochs: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    class_names: list[str] | None = None
    architecture: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] | None = None
    scheduler: Mapping[str, Any] | None = None
    scaler: Mapping[str, Any] | None = None


def read_trained(file: Path) -> Trained:
    """What a trainer's file holds. Raises ModelError, in one line, for what cannot be read."""
    try:
        content = read_foreign(file, partial(_check_names, file))
    except FileNotFoundError:
        raise ModelError(f"{file}: no such file") from None
    except ForeignFileError as error:
        raise ModelError(f"{file}: {error}") from error
    if not isinstance(content, Mapping) or not all(isinstance(key, str) for key in content):
        raise ModelError(f"{file}: holds no named tensors{_saved_whole(file)}")
    if any(isinstance(value, torch.Tensor) for value in content.values()):
        return Trained("a bare state dict", _tensors(file, content))
    return _of_trainer(file, content)


def _of_trainer(file: Path, content: Mapping[str, Any]) -> Trained:
    inner = next((k for k in _WEIGHTS if _holds_tensors(content.get(k))), None)
    average = next((k for k in _AVERAGES if _holds_tensors(content.get(k))), None)
    if inner is None and average is None:
        has = ", ".join(sorted(content)[:8])
        raise ModelError(
            f"{file}: has no state dict at its top or under {', '.join(_WEIGHTS)}; it has "
            f"{has or 'nothing'}{_saved_whole(file)}"
        )
    raw = None if inner is None else _tensors(file, _inside(content[inner]))
    averaged = None if average is None else _tensors(file, _inside(content[average]))
    weights = averaged or raw
    assert weights is not None
    settings = _settings(content)
    layout, from_zero = _layout(content)
    epoch = content.get("epoch")
    epochs = epoch + from_zero if type(epoch) is int and 0 <= epoch < 2**31 else None
    scheduler = _first(content, "scheduler_state_dict", "lr_schedulers", "scheduler")
    if not from_zero and epochs is not None and scheduler.get("last_epoch") == epochs + 1:
        epochs += 1  # a scheduler that made one step more shows that it was counted from 0
    return Trained(
        layout=f"{layout}, {'the averaged weights' if averaged else inner}",
        weights=weights,
        raw=raw if averaged else None,
        epochs=epochs,
        metrics=_metrics(content),
        class_names=_class_names(content, settings),
        architecture=_architecture(content, settings),
        settings=settings,
        optimizer=_first(content, "optimizer_state_dict", "optimizer_states", "optimizer") or None,
        scheduler=scheduler or None,
        scaler=_first(content, "scaler_state_dict", "amp_scaler", "scaler") or None,
    )


def _layout(content: Mapping[str, Any]) -> tuple[str, int]:
    """Whose checkpoint it is, and 1 where its epochs are counted from 0."""
    if "pytorch-lightning_version" in content:
        return "a checkpoint of PyTorch Lightning", 1
    if "arch" in content and "state_dict" in content:
        return "a checkpoint of timm's train.py", 1
    if "model_state_dict" in content:
        return "a checkpoint of the earlier system", 0
    return "a trainer's checkpoint", 0


def _check_names(file: Path, names: Sequence[str]) -> None:
    """Refuse a pickle that would call something, and modules that were pickled whole."""
    by_package = {name.partition(".")[0] for name in names}
    if "ultralytics" in by_package:
        raise ModelError(
            f"{file}: is a module pickled by Ultralytics, whose networks are none of timm's. Its "
            "plain state dict (from ultralytics import YOLO; import torch; "
            f'torch.save(YOLO({file.name!r}).model.state_dict(), "plain.pt")) would fit no '
            "--model either: train anew by `imgcls train`"
        )
    if by_package & {"fastai", "fastcore"}:
        raise ModelError(
            f"{file}: is a learner pickled by fastai, which runs code when it is read; "
            f"{_of_fastai(f'load_learner({file.name!r})')}"
        )
    if calls := calls_in(names):
        raise ModelError(
            f"{file}: its pickle would call {', '.join(map(_clipped, calls[:3]))} when it is read; "
            "nothing of it was run. If you trust who made it: import torch; "
            f'torch.save(torch.load({file.name!r}, weights_only=False)["model_state_dict"], '
            '"plain.pt")'
        )


def _clipped(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."


def _of_fastai(learner: str) -> str:
    return (
        "its head has layers that no timm model has, so take the backbone "
        f"(import torch; from fastai.vision.all import *; learn = {learner}; "
        'torch.save(learn.model[0].model.state_dict(), "backbone.pt")) and train a new head: '
        "imgcls train DATA --model NAME --weights backbone.pt"
    )


def _saved_whole(file: Path) -> str:
    return (
        "; if a whole model was saved, save its weights where you trust it: import torch; "
        f'torch.save(torch.load({file.name!r}, weights_only=False).state_dict(), "plain.pt")'
    )


def check_layers(file: Path, names: Sequence[str]) -> None:
    """Refuse networks that are none of timm's, by how their layers are called."""
    if any(re.match(r"(model\.)*\d+\.linear\.weight$", name) for name in names):
        raise ModelError(
            f"{file}: these are layers of an Ultralytics network, which is none of timm's, so no "
            "--model fits; train anew by `imgcls train`"
        )
    firsts = {name.partition(".")[0] for name in names}
    if firsts == {"0", "1"}:
        raise ModelError(f"{file}: these are layers of a fastai learner; {_of_fastai('...')}")
    of_torchvision = (
        "encoder.layers.encoder_layer_0." in " ".join(names)
        or "features.0.0.weight" in names
        or "features.0.1.weight" in names
    )
    if of_torchvision:
        raise ModelError(
            f"{file}: these are torchvision's names for layers, and its network differs from "
            "timm's of that name; of torchvision's families the ResNets, DenseNets and VGGs can be "
            "imported. Train timm's by `imgcls train`"
        )


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Mapping) and any(
        isinstance(v, torch.Tensor) for v in _inside(value).values()
    )


def _inside(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The innermost mapping: some keep {"module": {...}, "decay": 0.99}, or a state_dict."""
    for key in ("module", "shadow", "state_dict", "model"):
        if isinstance(inner := value.get(key), Mapping):
            return inner
    return value


def _tensors(file: Path, content: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The named tensors without what DistributedDataParallel and torch.compile put before."""
    tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
    for name, value in tensors.items():
        if (reason := why_no_weights(value)) is not None:
            raise ModelError(f"{file}: {name} {reason}")
    while prefix := next((p for p in _WRAPPED if all(k.startswith(p) for k in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
        if not tensors or "" in tensors:
            break
    return tensors


def _first(content: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """The first state of these names that is there; Lightning keeps lists of them."""
    for key in keys:
        value = content.get(key)
        if isinstance(value, (list, tuple)) and len(value) == 1:
            value = value[0]
        if isinstance(value, Mapping) and value:
            return value
    return {}


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the trainer was told: names and plain values of its args, config or the like."""
    found: dict[str, Any] = {}
    for key in ("args", "config", "hyper_parameters", "hparams"):
        value = content.get(key)
        told = vars(value) if isinstance(value, argparse.Namespace) else value
        if isinstance(told, Mapping):
            flat = {
                **told,
                **{k: v for g in told.values() if isinstance(g, Mapping) for k, v in g.items()},
            }
            found.update({str(k): v for k, v in flat.items() if _is_plain(v)})
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return len(value) < _MOST_NAMES and all(isinstance(v, (str, int, float)) for v in value)
    return isinstance(value, (str, int, float, bool))


def _metrics(content: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among the metrics, by name."""
    metrics = content.get("metrics")
    given = dict(metrics) if isinstance(metrics, Mapping) else {}
    if "metric" in content:
        given["metric"] = content["metric"]
    found = {}
    for name, value in given.items():
        # of a meta tensor or an int beyond all floats there is no number
        with contextlib.suppress(RuntimeError, OverflowError):
            is_one = isinstance(value, torch.Tensor) and value.numel() == 1
            number = value.item() if is_one else value
            if isinstance(name, str) and type(number) in (int, float) and math.isfinite(number):
                found[name] = float(number)
    return found


def _class_names(content: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str] | None:
    for key in _NAMES:
        for value in (content.get(key), settings.get(key)):
            if (
                isinstance(value, (list, tuple))
                and value
                and all(isinstance(v, str) for v in value)
            ):
                return list(value)
    indices = content.get("class_to_idx")
    if (
        isinstance(indices, Mapping)
        and sorted(indices.values(), key=str)
        and all(type(i) is int for i in indices.values())
    ):
        ordered = sorted(indices, key=lambda name: indices[name])
        if [indices[name] for name in ordered] == list(range(len(ordered))):
            return [str(name) for name in ordered]
    return None


def _architecture(content: Mapping[str, Any], settings: Mapping[str, Any]) -> str | None:
    """The timm model that the file says it is of."""
    names = [content.get("arch"), content.get("model_name")]
    names += [settings.get(key) for key in ("model_name", "model", "arch", "name")]
    return next((n for n in names if isinstance(n, str) and timm.is_model(n)), None)
