"""Any timm architecture with a new classifier, ready to fine-tune."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import timm
from timm.models import get_pretrained_cfg
from torch import nn

from imgcls.config.model import ModelConfig
from imgcls.errors import ModelError
from imgcls.models.catalog import nearest_names
from imgcls.models.weights import load_backbone

_HUB_TIMEOUT_S = 3.0


def create_model(config: ModelConfig) -> nn.Module:
    """The timm model of that name, on the CPU, with a new classifier behind its dropout.

    num_classes None keeps timm's own number of classes; img_size "auto" the model's own input
    size, and pretrained "auto" means no. The input size in use stands in `model.pretrained_cfg`.
    Raises ModelError for an unknown name, an option that the architecture does not take, and
    weights that cannot be had.
    """
    _check_known(config.name)
    pretrained = config.pretrained is True
    if pretrained and not _has_pretrained_weights(config.name):
        raise ModelError(
            f"--model {config.name}: timm has no pretrained weights for it; add --no-pretrained "
            "or choose a model of `imgcls list-models --pretrained`"
        )
    with _quick_hub() if pretrained else contextlib.nullcontext():
        model = _build(config, pretrained=pretrained)
    if config.img_size != "auto":
        facts = pretrained_facts(model)
        size = (facts["input_size"][0], config.img_size, config.img_size)
        set_pretrained_facts(model, {**facts, "input_size": size})
    if config.weights is not None:
        load_backbone(model, config.weights, classifier_names(model))
    if config.freeze_backbone:
        freeze_backbone(model)
    return model


def native_img_size(name: str) -> int:
    """The side, in pixels, of the input that the model was made for. Raises ModelError."""
    _check_known(name)
    facts = get_pretrained_cfg(name)
    return int(facts.input_size[-1]) if facts is not None else 224


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """The names of the classifier's layers; two for distilled models."""
    names = pretrained_facts(model)["classifier"]
    return (names,) if isinstance(names, str) else tuple(names)


def pretrained_facts(model: nn.Module) -> dict[str, Any]:
    """What timm knows about the model's weights and input: its `pretrained_cfg`."""
    return dict(model.pretrained_cfg)  # type: ignore[arg-type]


def set_pretrained_facts(model: nn.Module, facts: dict[str, Any]) -> None:
    """Give this one model other facts; timm shares the originals between models of a name."""
    model.pretrained_cfg = facts  # type: ignore[assignment]


def head_in_features(model: nn.Module) -> int:
    """The number of features that the classifier takes.

    Asked from the classifier itself: in timm's MobileNetV3 it is not `num_features`.
    """
    layer = model.get_submodule(classifier_names(model)[0])
    for name in ("in_features", "in_channels"):
        if hasattr(layer, name):
            return int(getattr(layer, name))
    return int(model.head_hidden_size)  # type: ignore[arg-type]


def freeze_backbone(model: nn.Module) -> None:
    """Leave the classifier's parameters as the only trainable ones."""
    prefixes = tuple(f"{name}." for name in classifier_names(model))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """(trainable, total) numbers of parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, trainable in sizes if trainable), sum(n for n, _ in sizes)


def architecture_options(config: ModelConfig) -> dict[str, Any]:
    """What timm must be told to build this model, beyond its name and classes."""
    facts = get_pretrained_cfg(config.name)
    options: dict[str, Any] = {}
    # only architectures with position tables or windows are built for one size
    if config.img_size != "auto" and facts is not None and facts.fixed_input_size:
        options["img_size"] = config.img_size
    return options


def _build(config: ModelConfig, *, pretrained: bool) -> nn.Module:
    options = architecture_options(config)
    if config.num_classes is not None:
        options["num_classes"] = config.num_classes
    if config.dropout:
        options["drop_rate"] = config.dropout
    if config.drop_path_rate:
        options["drop_path_rate"] = config.drop_path_rate
    try:
        model: nn.Module = timm.create_model(config.name, pretrained=pretrained, **options)
    except TypeError as error:
        refused = next((word for word in options if f"'{word}'" in str(error)), None)
        flags = {"drop_rate": "--dropout", "drop_path_rate": "--drop-path-rate"}
        if refused is None:
            raise
        raise ModelError(
            f"--model {config.name}: does not take {flags.get(refused, '--img-size')}; leave it out"
        ) from error
    except AssertionError as error:
        raise ModelError(
            f"--model {config.name}: cannot be built with --img-size {config.img_size}: "
            f"{' '.join(str(error).split()) or 'the size does not fit'}"
        ) from error
    except (OSError, RuntimeError, ValueError) as error:
        if not pretrained:
            raise
        raise ModelError(
            f"--model {config.name}: its pretrained weights are not on this machine and the hub "
            "cannot be reached; give --weights FILE, or --no-pretrained to start from scratch"
        ) from error
    return model


@contextlib.contextmanager
def _quick_hub() -> Iterator[None]:
    """Ask the hub once whether it is there; if not, use what is cached without any retries.

    Its own client would try each file six times, three quarters of a minute in all.
    """
    from huggingface_hub import constants, get_session

    was_offline = constants.HF_HUB_OFFLINE
    try:
        if not was_offline:
            get_session().head(constants.ENDPOINT, timeout=_HUB_TIMEOUT_S)
    except Exception:  # noqa: BLE001  whatever the client raises, the hub was not reached
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was_offline


def _check_known(name: str) -> None:
    if not timm.is_model(name):
        near = ", ".join(nearest_names(name))
        hint = f"; did you mean {near}?" if near else ""
        raise ModelError(f"--model {name}: timm has no such model{hint} (see `imgcls list-models`)")


def _has_pretrained_weights(name: str) -> bool:
    facts = get_pretrained_cfg(name)
    return facts is not None and bool(facts.has_weights)
