"""A model of a script's own training saved as a checkpoint like any other."""

from __future__ import annotations

import math
import operator
import os
import re
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any, overload

import psutil
import torch
from torch import nn

from imgcls.engine.checkpoint import folder as checkpoint_folder
from imgcls.engine.checkpoint.folder import Snapshot, take_snapshot
from imgcls.engine.training.optim import OptimizerState
from imgcls.engine.training.state import Stateful
from imgcls.errors import CheckpointError, ConfigError, ModelError
from imgcls.metrics.predictions import numbered
from imgcls.models.card import (
    bare_model,
    model_card,
    model_from_card,
    preprocessing_from_card,
    told_names,
)
from imgcls.results.checkpoint import Sidecar, are_names
from imgcls.storage.durable import TEMPORARY_PREFIX, replace_folder, writing
from imgcls.storage.model_folder import SIDECAR, read_sidecar


@overload
def save_checkpoint(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    epoch: int,
    metrics: Mapping[str, Any] | None,
    checkpoint_path: str | Path,
    scheduler: Stateful | None = None,
    scaler: Stateful | None = None,
    *,
    class_names: Sequence[str] | None = None,
    **preprocessing: Any,
) -> Path: ...


@overload
def save_checkpoint(snapshot: Snapshot, folder: str | Path) -> Path: ...


def save_checkpoint(*arguments: Any, **named: Any) -> Path:
    """Save a model of a script's own training, or a snapshot, as a checkpoint folder; its path.

    save_checkpoint(model, optimizer, epoch, metrics, checkpoint_path, scheduler=None, scaler=None,
    *, class_names=None, **preprocessing): evaluated, classified with, timed and exported like one
    that imgcls trained. epoch: the one just ended. metrics: of it, by name. class_names: in the
    order of the outputs; by default the model's own, which `load_checkpoint` tells it, else their
    numbers, with a warning. preprocessing: in timm's words, input_size, mean, std, interpolation,
    crop_pct, crop_mode; by default as the model's `pretrained_cfg` says. A checkpoint of that path
    is replaced. Raises ModelError for a model that timm could not build again, ConfigError for
    arguments of another kind, OutputError where it cannot be written.

    save_checkpoint(snapshot, folder): what `take_snapshot` gave. Raises OSError when it cannot be
    written or the name is taken.
    """
    first = arguments[0] if arguments else named.get("snapshot")
    if isinstance(first, Snapshot):
        return checkpoint_folder.save_checkpoint(*arguments, **named)
    return _save_parts(*arguments, **named)


def _save_parts(  # noqa: PLR0917  as scripts call it
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    epoch: int,
    metrics: Mapping[str, Any] | None,
    checkpoint_path: str | Path,
    scheduler: Stateful | None = None,
    scaler: Stateful | None = None,
    *,
    class_names: Sequence[str] | None = None,
    **preprocessing: Any,
) -> Path:
    scales = isinstance(scheduler, torch.amp.GradScaler)
    _check_kinds(
        model=(model, isinstance(model, nn.Module)),
        optimizer=(optimizer, isinstance(optimizer, (torch.optim.Optimizer, NoneType))),
        epoch=(epoch, hasattr(epoch, "__index__")),
        metrics=(metrics, isinstance(metrics, (Mapping, NoneType))),
        checkpoint_path=(checkpoint_path, isinstance(checkpoint_path, (str, Path))),
        scheduler=(scheduler, isinstance(scheduler, (Stateful, NoneType)) and not scales),
        scaler=(scaler, isinstance(scaler, (Stateful, NoneType))),
    )
    if (epoch := operator.index(epoch)) < 0:
        raise ConfigError(f"save_checkpoint: epoch is {epoch}; it is 0 or more")
    folder = Path(checkpoint_path)
    _check_replaceable(folder)
    bare = bare_model(model)
    card = _card(bare, _class_names(bare, class_names), preprocessing)
    _require_rebuilt(bare, card)
    numbers, exact = _numbers(metrics or {})
    state = {
        **({} if optimizer is None else {"optimizer": OptimizerState(optimizer).state_dict()}),
        **({} if scheduler is None else {"scheduler": scheduler.state_dict()}),
        **({} if scaler is None else {"scaler": scaler.state_dict()}),
        **({} if exact else {"metrics": dict(metrics or {})}),
    }
    sidecar = Sidecar(
        model_name=card["architecture"],
        class_names=tuple(card["label_names"]),
        epoch=epoch,
        metrics=numbers,
    )
    try:
        snapshot = take_snapshot(bare, card, sidecar, state or None)
    except TypeError as error:
        raise ConfigError(
            f"save_checkpoint: {error}; a checkpoint holds numbers, texts, arrays and tensors"
        ) from error
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        if not folder.exists():
            return checkpoint_folder.save_checkpoint(snapshot, folder)
        new = folder.with_name(f"{TEMPORARY_PREFIX}next-{folder.name}-{os.getpid()}")
        try:
            return replace_folder(checkpoint_folder.save_checkpoint(snapshot, new), folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed processes had written of the folder's next content."""
    name = re.escape(folder.name)
    kinds = rf"(?:{name}|next-{name}|removed-{name}|{re.escape(TEMPORARY_PREFIX)}next-{name}-\d+)"
    leftover = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}{kinds}-(\d+)")
    for part in folder.parent.glob(f"{TEMPORARY_PREFIX}*"):
        found = leftover.fullmatch(part.name)
        if found is not None and not psutil.pid_exists(int(found[1])):
            shutil.rmtree(part, ignore_errors=True)


def _check_kinds(**arguments: tuple[Any, bool]) -> None:
    """Refuse arguments in another order than the call's."""
    for name, (value, fits) in arguments.items():
        if not fits:
            raise ConfigError(
                f"save_checkpoint: {name} is a {type(value).__name__}; the call is "
                "save_checkpoint(model, optimizer, epoch, metrics, checkpoint_path, scheduler, "
                "scaler)"
            )


def _check_replaceable(folder: Path) -> None:
    """Refuse to replace what no script's save_checkpoint wrote."""
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not (folder / SIDECAR).is_file():
        what = "is there, and is no checkpoint"
    elif read_sidecar(folder).config is not None:
        what = "was trained by imgcls"
    else:
        return
    raise ConfigError(f"{folder}: {what}, so it is not replaced; name another path")


def _class_names(model: nn.Module, given: Sequence[str] | None) -> list[str]:
    """The class names as texts: those given, those that the model was told, or numbers."""
    names = told_names(model) if given is None else [str(name) for name in given]
    count = getattr(model, "num_classes", 0)
    if names is None:
        warnings.warn(
            f"save_checkpoint: the classes have no names and are called 0 to {count - 1}; give "
            "class_names=[...], in the order of the model's outputs",
            stacklevel=4,
        )
        return list(numbered(count))
    if not are_names(names):
        raise ConfigError(f"save_checkpoint: class_names are not all different texts: {names}")
    return names


def _card(
    model: nn.Module, class_names: Sequence[str], preprocessing: Mapping[str, Any]
) -> dict[str, Any]:
    """The model's config.json. Raises ConfigError for a preprocessing that cannot be one."""
    try:
        card = model_card(model, class_names, **preprocessing)
        preprocessing_from_card(card)
    except (TypeError, ValueError, AssertionError, CheckpointError) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in preprocessing.items())
        raise ConfigError(
            f"save_checkpoint: no usable preprocessing ({given or 'of pretrained_cfg'}); "
            "input_size is (channels, height, width), mean and std have a number for each channel"
        ) from error
    return card


def _require_rebuilt(model: nn.Module, card: Mapping[str, Any]) -> None:
    """Raise ModelError where the card gives another model, whose weights these are not."""
    with torch.device("meta"):
        rebuilt = model_from_card(dict(card))
    own, other = ({k: list(v.shape) for k, v in m.state_dict().items()} for m in (model, rebuilt))
    for key in sorted(own.keys() | other.keys()):
        if own.get(key) != other.get(key):
            raise ModelError(
                f"save_checkpoint: {key} is {own.get(key)} in the model and {other.get(key)} in "
                f"the {card['architecture']} that timm builds for {card['num_classes']} classes; "
                "layers of your own cannot be saved, and another size or number of channels is "
                "told by input_size=(channels, height, width)"
            )


def _numbers(metrics: Mapping[str, Any]) -> tuple[dict[str, float | None], bool]:
    """(the metrics that are numbers, whether these are all and JSON can hold each)."""
    numbers: dict[str, float | None] = {}
    exact = True
    for name, value in metrics.items():
        number = value.item() if getattr(value, "ndim", None) == 0 else value
        is_number = type(number) in (int, float)
        held = number is None or (is_number and math.isfinite(number))
        exact = exact and held and isinstance(name, str)
        if isinstance(name, str) and (held or is_number):
            numbers[name] = number if held else None
    return numbers, exact
