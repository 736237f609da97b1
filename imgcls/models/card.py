"""A model's preprocessing, and the config.json from which timm rebuilds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import timm
from timm.data import resolve_data_config
from torch import nn

from imgcls.errors import CheckpointError, ModelError, reason_of
from imgcls.models.build import pretrained_cfg_of, set_pretrained_cfg
from imgcls.results.checkpoint import StartingWeights

_RGB = 3
_NAMES = "label_names"
_LARGEST_SIDE = 4096
_MOST_CHANNELS = 4
_INTERPOLATIONS = {"nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"}
_CROP_MODES = {"crop": "center", "squash": "squash", "pad": "border"}


@dataclass(frozen=True)
class Preprocessing:
    """A model's input in timm's words. mean and std are those of inputs in 0 to 1."""

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str
    crop_pct: float
    crop_mode: str

    def to_json(self) -> dict[str, Any]:
        """As JSON types."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def preprocessing_of(model: nn.Module, resize_mode: str) -> Preprocessing:
    """The model's own preprocessing, from its pretrained_cfg, for `--resize-mode`.

    squash and pad keep the whole picture; crop keeps the share that the weights were tested with.
    """
    own = _resolved(pretrained_cfg_of(model))
    crop_pct = own.crop_pct if resize_mode == "crop" else 1.0
    return Preprocessing(
        own.input_size,
        own.mean,
        own.std,
        own.interpolation,
        crop_pct,
        _CROP_MODES[resize_mode],
    )


def preprocessing_from_card(card: dict[str, Any]) -> Preprocessing:
    """The preprocessing that a checkpoint's config.json holds. Raises CheckpointError."""
    try:
        found = _resolved(card["pretrained_cfg"])
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        AssertionError,
        OverflowError,
    ) as error:
        raise CheckpointError("config.json: its pretrained_cfg is not usable") from error
    numbers = (*found.mean, *found.std, found.crop_pct)
    if (
        not all(0 < side <= _LARGEST_SIDE for side in found.input_size)
        or not len(found.mean) == len(found.std) == found.input_size[0]
        or not all(math.isfinite(number) for number in numbers)
        or min(found.std) <= 0
        or not 0.01 <= found.crop_pct <= 1  # noqa: PLR2004  below, the resized picture is huge
        or found.crop_mode not in _CROP_MODES.values()
        or found.interpolation not in _INTERPOLATIONS
    ):
        raise CheckpointError("config.json: its pretrained_cfg holds impossible values")
    return found


def _resolved(pretrained_cfg: dict[str, Any]) -> Preprocessing:
    config = resolve_data_config(pretrained_cfg=pretrained_cfg)
    channels, height, width = config["input_size"]
    return Preprocessing(
        input_size=(int(channels), int(height), int(width)),
        mean=tuple(float(value) for value in config["mean"]),
        std=tuple(float(value) for value in config["std"]),
        interpolation=str(config["interpolation"]),
        crop_pct=float(config["crop_pct"]),
        crop_mode=str(config["crop_mode"]),
    )


def model_card(
    model: nn.Module,
    class_names: Sequence[str],
    preprocessing: Preprocessing | None = None,
    *,
    starting_weights: StartingWeights | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The content of config.json in timm's and Hugging Face's model-folder format, for timm models.

    class_names: in the order of the model's outputs. preprocessing: by default the model's own, but
    for `changes`, in timm's words: input_size, mean, std, interpolation, crop_pct, crop_mode.
    starting_weights: what its training began with; by default the model's own tag, as in timm.
    `timm.create_model("local-dir:<folder>", pretrained=True)` rebuilds the model from it.
    Raises ModelError for a model that is not timm's or has another number of outputs.
    """
    own = getattr(model, "pretrained_cfg", None)
    if not isinstance(own, dict) or "architecture" not in own:
        raise ModelError("model_card: not a timm model, so no config.json can say how to build it")
    if getattr(model, "num_classes", len(class_names)) != len(class_names):
        raise ModelError(
            f"model_card: {len(class_names)} class names for {model.num_classes} outputs "
            "of the model"
        )
    if unknown := set(changes) - set(Preprocessing.__dataclass_fields__):
        raise ModelError(f"model_card: {', '.join(sorted(unknown))} is no part of a preprocessing")
    preprocessing = preprocessing or _resolved({**own, **changes})
    own = {**own, **_said_of(starting_weights, own["architecture"])}
    kept = ("tag", "pool_size", "first_conv", "classifier", "fixed_input_size", "license")
    card: dict[str, Any] = {
        "architecture": own["architecture"],
        "num_classes": len(class_names),
        "num_features": model.num_features,
        "label_names": list(class_names),
        "pretrained_cfg": {
            **{key: own[key] for key in kept if own.get(key) is not None},
            "custom_load": False,
            "num_classes": len(class_names),
            **preprocessing.to_json(),
        },
    }
    channels, _, width = preprocessing.input_size
    if channels != _RGB:
        card["model_args"] = {"in_chans": channels}
        # timm would adapt the first layer's weights, which fit already
        card["pretrained_cfg"].pop("first_conv", None)
    # only architectures with position tables or windows are built for one size
    if own.get("fixed_input_size"):
        card["model_args"] = {"img_size": width, **card.get("model_args", {})}
    return card


def _said_of(weights: StartingWeights | None, architecture: str) -> dict[str, str | None]:
    """The tag and the licence in timm's words; a model has its default tag's, whatever it holds."""
    if weights is None:
        return {}
    of, _, tag = (weights.name or "").partition(".")
    return {"tag": tag if of == architecture else None, "license": weights.licence}


def model_from_card(card: dict[str, Any]) -> nn.Module:
    """The architecture that config.json describes, with random weights.

    Raises CheckpointError when timm cannot build it.
    """
    check_card(card)
    try:
        model: nn.Module = timm.create_model(
            card["architecture"],
            pretrained=False,
            num_classes=card["num_classes"],
            **card.get("model_args", {}),
        )
        set_pretrained_cfg(model, {**pretrained_cfg_of(model), **card["pretrained_cfg"]})
    except (KeyError, TypeError, RuntimeError, ValueError, AssertionError) as error:
        reason = reason_of(error)
        raise CheckpointError(f"config.json: timm cannot build this model: {reason}") from error
    return model


def check_card(card: dict[str, Any]) -> None:
    """Refuse what no honest card says, because a card may come from anyone.

    timm would take a path for a name and files among the arguments; a size may ask for terabytes.
    """
    name, arguments = card.get("architecture"), card.get("model_args", {})
    if not isinstance(name, str) or not timm.is_model(name):
        raise CheckpointError(f"config.json: timm has no architecture {str(name)[:80]!r}")
    num_classes, label_names = card.get("num_classes"), card.get("label_names")
    if type(num_classes) is not int or num_classes < 1:
        raise CheckpointError(
            f"config.json: num_classes is {str(num_classes)[:80]}; a classifier has 1 or more"
        )
    if not isinstance(label_names, list) or len(label_names) != num_classes:
        raise CheckpointError(f"config.json: label_names are not {num_classes} names")
    if not isinstance(arguments, dict) or set(arguments) - {"img_size", "in_chans", "global_pool"}:
        raise CheckpointError(
            "config.json: model_args may hold img_size, in_chans and global_pool only"
        )
    pool = arguments.get("global_pool", "avg")
    if not isinstance(pool, str) or not pool:
        raise CheckpointError(f"config.json: global_pool is {str(pool)[:80]!r}, so nothing pools")
    in_chans = arguments.get("in_chans", 1)
    if type(in_chans) is not int or not 0 < in_chans <= _MOST_CHANNELS:
        raise CheckpointError(f"config.json: in_chans is {str(in_chans)[:80]}, not 1 to 4")
    img_size = arguments.get("img_size", 1)
    if type(img_size) is not int or not 0 < img_size <= _LARGEST_SIDE:
        raise CheckpointError(f"config.json: img_size is {str(img_size)[:80]}, not a usable size")
    if not isinstance(card.get("pretrained_cfg"), dict):
        raise CheckpointError("config.json: has no pretrained_cfg")


def bare_model(model: nn.Module) -> nn.Module:
    """The model without what DataParallel and torch.compile put around it."""
    inner = getattr(model, "_orig_mod", None)
    if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inner = model.module
    return bare_model(inner) if isinstance(inner, nn.Module) else model


def told_names(model: nn.Module) -> list[str] | None:
    """The class names that the model was told, in the order of its outputs; None for none."""
    names = _told(model).get(_NAMES)
    return list(names) if names and len(names) == getattr(model, "num_classes", None) else None


def tell_model(model: nn.Module, card: dict[str, Any], class_names: Sequence[str]) -> None:
    """Let a model of the card's architecture know its classes and its input, in timm's words."""
    told = _told(model)
    if told.get("architecture") == card.get("architecture"):
        names = {_NAMES: list(class_names)}
        set_pretrained_cfg(model, {**told, **card["pretrained_cfg"], **names})


def _told(model: nn.Module) -> dict[str, Any]:
    return pretrained_cfg_of(model) if hasattr(model, "pretrained_cfg") else {}
