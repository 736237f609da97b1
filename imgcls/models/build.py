"""Any timm architecture with a new classifier, ready to fine-tune."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from safetensors import SafetensorError
from timm.models import get_pretrained_cfg
from torch import nn

from imgcls.config.model import ModelConfig
from imgcls.errors import ModelError, reason_of
from imgcls.models.architecture import takes_rate
from imgcls.models.catalog.read import nearest_names
from imgcls.models.counting import with_counts
from imgcls.models.hub import Hub, check_has_weights, not_to_be_had, quick_hub, unreachable
from imgcls.models.weights import load_backbone, quiet_resizing

if TYPE_CHECKING:
    from imgcls.models.counting import CountedModule

_RGB = 3
# as torch tells it on a CPU, with the bytes, and on a device
_TOO_LARGE = re.compile(r"tried to allocate (\d+) bytes|out of memory|overflow")
_FIELDS = {"drop_rate": "dropout", "drop_path_rate": "drop_path_rate"}
_FLAGS = {
    "drop_rate": "--dropout",
    "drop_path_rate": "--drop-path-rate",
    "in_chans": "--in-chans",
}


def create_model(
    config: ModelConfig, on_weights: Callable[[str], None] = lambda _what: None
) -> CountedModule:
    """The timm model of that name, on the CPU, with a new classifier behind its dropout.

    It has get_num_total_params() and get_num_trainable_params(), and prints nothing.

    num_classes None keeps timm's own number of classes, img_size "auto" the model's own input
    size; pretrained "auto" means yes, unless there are `weights`. The input size in use stands in
    `model.pretrained_cfg`. on_weights is told what was taken from the file of
    `weights`. Raises ModelError for an unknown name, an option that the architecture does not take,
    and weights that cannot be had.
    """
    _check_known(config.name)
    # where no data says otherwise, auto is for pictures
    if config.pretrained is True or (config.pretrained == "auto" and config.weights is None):
        check_has_weights(config.name)
        with quick_hub() as hub:
            model = _build(config, hub)
    else:
        model = _build(config)
    _check_has_classifier(model, config.name)
    _check_rates_taken(config)
    if config.in_chans != _RGB:
        _set_in_chans(model, config.in_chans)
    if config.img_size != "auto":
        _set_img_size(model, config.name, config.img_size)
    if config.in_chans != _RGB:
        _check_in_chans(model, config.name, config.in_chans)
    if config.weights is not None:
        on_weights(load_backbone(model, config.weights, classifier_names(model)))
    if config.freeze_backbone:
        freeze_backbone(model)
    return with_counts(model)


def native_img_size(name: str) -> int:
    """The side, in pixels, of the input that the model was made for. Raises ModelError."""
    _check_known(name)
    cfg = get_pretrained_cfg(name)
    return int(cfg.input_size[-1]) if cfg is not None else 224


def has_one_classifier(name: str) -> bool:
    """False for distilled models, which have two and average what they say. Raises ModelError."""
    _check_known(name)
    cfg = get_pretrained_cfg(name)
    return cfg is None or not isinstance(cfg.classifier, (tuple, list))


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """The names of the classifier's layers; two for distilled models."""
    names = pretrained_cfg_of(model)["classifier"]
    return (names,) if isinstance(names, str) else tuple(names)


def pretrained_cfg_of(model: nn.Module) -> dict[str, Any]:
    """What timm knows about the model's weights and input: its `pretrained_cfg`."""
    return dict(model.pretrained_cfg)  # type: ignore[arg-type]


def set_pretrained_cfg(model: nn.Module, cfg: dict[str, Any]) -> None:
    """Give this one model a pretrained_cfg; timm shares those of one name between models."""
    model.pretrained_cfg = cfg  # type: ignore[assignment]


def freeze_backbone(model: nn.Module) -> None:
    """Leave the classifier's parameters as the only trainable ones."""
    prefixes = tuple(f"{name}." for name in classifier_names(model))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))


def checkpoint_gradients(model: nn.Module, name: str) -> None:
    """Let the model keep fewer activations (Chen et al. 2016, arXiv:1604.06174).

    Raises ModelError for an architecture that timm cannot do it for.
    """
    try:
        model.set_grad_checkpointing()  # type: ignore[operator]
    except (AttributeError, AssertionError, TypeError) as error:
        raise ModelError(
            f"runtime.grad_checkpointing (--grad-checkpointing): timm cannot do it for {name}; "
            "leave it out, or try a smaller --batch-size with --grad-accum-steps"
        ) from error


def architecture_options(config: ModelConfig) -> dict[str, Any]:
    """What timm must be told to build this model, beyond its name and classes."""
    cfg = get_pretrained_cfg(config.name)
    options: dict[str, Any] = {}
    # only architectures with position tables or windows are built for one size
    if config.img_size != "auto" and cfg is not None and cfg.fixed_input_size:
        options["img_size"] = config.img_size
    if config.in_chans != _RGB:
        options["in_chans"] = config.in_chans
    return options


def _options(config: ModelConfig) -> dict[str, Any]:
    options = architecture_options(config)
    if config.num_classes is not None:
        options["num_classes"] = config.num_classes
    # an explicit 0 too: not every architecture's own rate is 0
    rates = {option: getattr(config, field) for option, field in _FIELDS.items()}
    return {**options, **{option: rate for option, rate in rates.items() if rate != "auto"}}


def _check_rates_taken(config: ModelConfig) -> None:
    """Refuse a rate that timm takes and that then is in no layer."""
    for option, field in _FIELDS.items():
        rate = getattr(config, field)
        if rate != "auto" and rate > 0 and not takes_rate(config.name, option):
            raise _not_taken(config.name, _FLAGS[option])


def _not_taken(name: str, flag: str) -> ModelError:
    return ModelError(f"--model {name}: does not take {flag}; leave it out")


def _build(config: ModelConfig, hub: Hub | None = None) -> nn.Module:
    options = _options(config)
    try:
        with quiet_resizing():
            model: nn.Module = timm.create_model(config.name, pretrained=hub is not None, **options)
    except TypeError as error:
        refused = refused_option(error, options)
        if refused is not None and options[refused] == 0:
            # it has none, as was asked for
            return _build(config.model_copy(update={_FIELDS[refused]: "auto"}), hub)
        if refused is None:
            raise
        raise _not_taken(config.name, _FLAGS.get(refused, "--img-size")) from error
    except (AssertionError, ZeroDivisionError) as error:
        if "img_size" not in options:
            raise
        raise _size_error(config.name, options["img_size"], error) from error
    except (OSError, RuntimeError, ValueError, SafetensorError, MemoryError) as error:
        if "img_size" in options and _TOO_LARGE.search(str(error)):
            raise _size_error(config.name, options["img_size"], error) from error
        if hub is None:
            raise
        here = hub.problem is None or not isinstance(error, OSError)
        reason = f"cannot be loaded ({_one_line(error)})" if here else unreachable(hub)
        raise not_to_be_had(config.name, reason) from error
    return model


def refused_option(error: TypeError, options: Iterable[str]) -> str | None:
    """Which of the options an architecture does not take, as Python says it; None for none."""
    return next((word for word in options if f"'{word}'" in str(error)), None)


def _set_in_chans(model: nn.Module, in_chans: int) -> None:
    """Record an input that is not RGB: grey takes the mean of the colours, more repeat them.

    As timm's adapt_input_conv does with the weights of the first layer.
    """
    cfg = pretrained_cfg_of(model)
    adapted = {}
    for name in ("mean", "std"):
        colours = cfg[name]
        grey = (sum(colours) / len(colours),)
        adapted[name] = grey if in_chans == 1 else (*colours, *colours)[:in_chans]
    size = (in_chans, *cfg["input_size"][1:])
    set_pretrained_cfg(model, {**cfg, **adapted, "input_size": size})


def _check_in_chans(model: nn.Module, name: str, in_chans: int) -> None:
    error = _forward_error(model, pretrained_cfg_of(model)["input_size"])
    if error is not None:
        raise ModelError(
            f"--model {name}: does not take --in-chans {in_chans} ({_one_line(error)})"
        ) from error


def _set_img_size(model: nn.Module, name: str, img_size: int) -> None:
    """Record the input size, after one black picture of a size not the model's own went through.

    Many architectures take any size when they are built and fail in the first forward pass.
    """
    cfg = pretrained_cfg_of(model)
    size = (cfg["input_size"][0], img_size, img_size)
    if img_size != native_img_size(name) and (error := _forward_error(model, size)):
        raise _size_error(name, img_size, error) from error
    set_pretrained_cfg(model, {**cfg, "input_size": size})


def _forward_error(model: nn.Module, size: tuple[int, int, int]) -> Exception | None:
    """What one black picture of that size makes of the model; None when it goes through."""
    device = next(model.parameters()).device
    model.eval()
    try:
        # not inference_mode: some attention layers keep tensors that training uses again
        with torch.no_grad():
            model(torch.zeros(1, *size, device=device))
    except (
        AssertionError,
        RuntimeError,
        ValueError,
        IndexError,
        ZeroDivisionError,
        MemoryError,
    ) as error:
        return error
    finally:
        model.train()
    return None


def _size_error(name: str, img_size: int, error: Exception) -> ModelError:
    asked = _TOO_LARGE.search(str(error))
    if isinstance(error, MemoryError) or asked:
        size = f" ({int(asked[1]) / 2**30:,.0f} GiB at once)" if asked and asked[1] else ""
        return ModelError(
            f"--model {name}: --img-size {img_size} takes more memory than there is{size}; take a "
            f"smaller one, its own is {native_img_size(name)}"
        )
    return ModelError(
        f"--model {name}: does not take --img-size {img_size} "
        f"({_one_line(error) or 'the size does not fit'}); its own is {native_img_size(name)}"
    )


def _one_line(error: Exception) -> str:
    return reason_of(error)


def _check_known(name: str) -> None:
    if not timm.is_model(name):
        if Path(name).exists():
            raise ModelError(
                f"--model {name}: is a file or folder, not a timm model; trained weights are for "
                "--weights, beside the --model that they are of"
            )
        near = ", ".join(nearest_names(name, among=timm.list_models()))
        hint = f"; did you mean {near}?" if near else ""
        raise ModelError(f"--model {name}: timm has no such model{hint} (see `imgcls list-models`)")
    try:
        get_pretrained_cfg(name)
    except RuntimeError as error:
        architecture, _, tag = name.partition(".")
        known = [full.partition(".")[2] for full in timm.list_pretrained(f"{architecture}.*")]
        raise ModelError(
            f"--model {name}: {architecture} has no weights tagged {tag!r}; "
            f"its tags are {', '.join(known) or 'none'}"
        ) from error


def _check_has_classifier(model: nn.Module, name: str) -> None:
    layers = {layer for layer, _ in model.named_modules()}
    if pretrained_cfg_of(model).get("classifier") is None or not layers >= {
        *classifier_names(model)
    }:
        raise ModelError(
            f"--model {name}: is an encoder without a classifier; choose another model "
            "(`imgcls list-models`)"
        )
