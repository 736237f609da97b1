"""Weights of another training in timm's model of their architecture, each tensor in its place."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from torch import nn

from imgcls.config.model import ModelConfig
from imgcls.errors import ModelError
from imgcls.models.build import (
    architecture_options,
    classifier_names,
    create_model,
    native_img_size,
    pretrained_cfg_of,
)
from imgcls.models.catalog.build import skeleton
from imgcls.models.catalog.read import load_catalog
from imgcls.models.foreign import why_no_weights
from imgcls.models.layouts import Trained, check_layers

Tensors = Mapping[str, torch.Tensor]
# the earlier system's model was timm's without a classifier, and dropout and a linear layer behind
_BACKBONE = "backbone."
_HEAD = re.compile(r"(?:classifier|head|fc)(?:\.\d+)?\.(weight|bias)")
_CLASSIFIER = re.compile(r"(?:^|\.)(?:fc|classifier|head|head\.fc|head\.l|last_linear)\.weight$")
# a counter that old files do not hold
_OPTIONAL = ".num_batches_tracked"
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "_index", "attn_mask")
# outputs of timm's own classifiers: ImageNet's, its 21k and 12k sets, none
_USUAL_OUTPUTS = (1000, 21841, 21843, 11821, 11221, 10450, 0)
_MOST_CHANNELS = 4
_FEWEST_OUTPUTS = 2
_MOST_TRIED, _MOST_NAMED = 12, 4
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Fitted:
    """The model of a file, on the CPU, and what else of its weights a training goes on with.

    config: how it was built. weights: those of the model. raw: the trained ones beside an average,
    None where the model's are these. parameters: the model's parameters as the file's training had
    them, in its order; a layer of two classifiers stands for one of theirs. from_wrapper: they lay
    in a model around a timm one.
    """

    model: nn.Module
    config: ModelConfig
    weights: dict[str, torch.Tensor]
    raw: dict[str, torch.Tensor] | None
    parameters: tuple[str, ...]
    from_wrapper: bool


def fit(file: Path, trained: Trained, name: str, img_size: int | None) -> Fitted:
    """The timm model of that name with a file's weights.

    Raises ModelError for a file of another architecture, by its first tensor.
    """
    native_img_size(name)  # says what is near to a name that timm has not
    bones = skeleton(name)
    own, classifier = _shapes(bones), classifier_names(bones)
    wrapped = _is_wrapped(trained.weights, own)
    weights = _renamed(file, trained.weights, own, classifier, wrapped=wrapped)
    head = weights.get(f"{classifier[0]}.weight")
    if head is None:
        check_layers(file, list(trained.weights))
        raise ModelError(_without_classifier(file, name, classifier[0], weights, own))
    if head.ndim == 0 or head.shape[0] < _FEWEST_OUTPUTS:
        outputs = head.shape[0] if head.ndim else 0
        raise ModelError(
            f"{file}: its classifier ({classifier[0]}.weight) has {outputs} outputs, and "
            "probabilities over classes need two or more; of one output, as of a model of yes or "
            "no by a sigmoid, train anew from its backbone: imgcls train DATA --model "
            f"{name} --weights {shlex.quote(str(file))}"
        )
    in_chans = _channels(bones, weights)
    config = ModelConfig(
        name=name,
        pretrained=False,
        num_classes=head.shape[0],
        img_size="auto" if img_size is None else img_size,
        in_chans=in_chans,
    )
    model = create_model(config)
    weights = _checked(file, trained, weights, model, name)
    raw = None
    if trained.raw is not None:
        raw = _renamed(file, trained.raw, own, classifier, wrapped=_is_wrapped(trained.raw, own))
        raw = _checked(file, trained, raw, model, name)
    model.load_state_dict(weights)
    model.eval()
    if wrapped:
        _require_same_answers(file, model, config, weights, classifier)
    named = dict(model.named_parameters())
    parameters = tuple(key for key in (raw or weights) if key in named)
    return Fitted(model, config, weights, raw, parameters, wrapped)


def _shapes(model: nn.Module) -> dict[str, list[int]]:
    return {key: list(value.shape) for key, value in model.state_dict().items()}


def _is_wrapped(weights: Tensors, own: Iterable[str]) -> bool:
    """True where the model stands inside another one, as its backbone."""
    # a hybrid ViT has a backbone inside, which is none around it
    first = next(iter(own))
    ends = [f".{key}" for key in weights]
    if any(end.endswith(f".{first}") for end in ends):
        return any(end.endswith(f".{_BACKBONE}{first}") for end in ends)
    return any(f".{_BACKBONE}" in end for end in ends)


def _renamed(
    file: Path,
    weights: Tensors,
    own: Iterable[str],
    classifier: tuple[str, ...],
    *,
    wrapped: bool,
) -> dict[str, torch.Tensor]:
    """The tensors by timm's names, in the file's order, without what lies beside the model."""
    layers = tuple(f"{name}." for name in classifier)
    wanted = [k for k in own if not k.startswith(layers) and not k.endswith(_OPTIONAL)]
    inner = _BACKBONE if wrapped else ""
    prefix = _prefix(weights, inner, wanted)
    found: dict[str, torch.Tensor] = {}
    heads: list[str] = []
    for key, value in weights.items():
        if not key.startswith(prefix):
            continue
        name = key.removeprefix(prefix)
        head = _HEAD.fullmatch(name) if wrapped else None
        if head is not None:
            heads.append(name)
            found.update({f"{layer}.{head[1]}": value for layer in classifier})
        else:
            found[name.removeprefix(inner)] = value
    if len(heads) > 2:  # noqa: PLR2004  a weight and a bias
        raise ModelError(
            f"{file}: its head has several layers ({', '.join(heads[:4])}), and timm's models have "
            "one; train a new one on its backbone: imgcls train DATA --model NAME --weights "
            f"{shlex.quote(str(file))}"
        )
    return found


def _prefix(weights: Tensors, inner: str, wanted: list[str]) -> str:
    """What stands before all names of the model: "" unless it lies inside another one."""
    first = f"{inner}{wanted[0]}"
    for key in weights:
        if key.endswith(first):
            prefix = key.removesuffix(first)
            if all(f"{prefix}{inner}{name}" in weights for name in wanted):
                return prefix
    return ""


def _channels(bones: nn.Module, weights: Tensors) -> int:
    """The channels of the input, by the first layer's weights."""
    first = pretrained_cfg_of(bones).get("first_conv")
    first = first[0] if isinstance(first, (list, tuple)) else first
    layer = weights.get(f"{first}.weight")
    is_conv = layer is not None and layer.ndim == 4  # noqa: PLR2004  C, I, H, W
    channels = layer.shape[1] if is_conv and layer is not None else 3
    return channels if 0 < channels <= _MOST_CHANNELS else 3


def _checked(
    file: Path, trained: Trained, weights: dict[str, torch.Tensor], model: nn.Module, name: str
) -> dict[str, torch.Tensor]:
    """The tensors as the model has them. Raises ModelError where some are missing or do not fit."""
    own = model.state_dict()
    layers = tuple(f"{layer}.weight" for layer in classifier_names(model))
    for key in layers:  # a convolution of one pixel is a linear layer
        if key in weights and key in own and own[key].numel() == weights[key].numel():
            weights[key] = weights[key].reshape(own[key].shape)
    for key in own.keys() - weights.keys():
        if key.endswith(_OPTIONAL):
            weights[key] = own[key]
    problem = _difference(weights, own)
    if problem is not None:
        check_layers(file, list(trained.weights))
        resized = "" if "pos_embed" not in problem else "; is it another --img-size?"
        raise ModelError(f"{file}: {problem}{resized or _other_models(weights, name)}")
    for key, value in weights.items():
        if (reason := why_no_weights(value, own[key])) is not None:
            raise ModelError(f"{file}: {key} {reason}")
    # float64 may be beyond float32
    weights = {key: value.to(own[key].dtype) for key, value in weights.items()}
    broken = [k for k, v in weights.items() if v.is_floating_point() and not v.isfinite().all()]
    if broken:
        raise ModelError(
            f"{file}: {broken[0]}{_more(broken)} holds inf or nan, as a training that diverged "
            "leaves it; import an earlier checkpoint"
        )
    return weights


def _difference(weights: Tensors, own: Tensors) -> str | None:
    reshaped = [k for k in own if k in weights and own[k].shape != weights[k].shape]
    if reshaped:
        key = reshaped[0]
        return (
            f"{key} is {list(weights[key].shape)} in the file and {list(own[key].shape)} in the "
            f"model{_more(reshaped)}"
        )
    missing = [k for k in own if k not in weights]
    unexpected = [k for k in weights if k not in own]
    problems = [f"lacks {missing[0]}{_more(missing)}"] if missing else []
    if unexpected:
        problems.append(f"has {unexpected[0]}{_more(unexpected)}, which the model has not")
    return " and ".join(problems) or None


def _without_classifier(
    file: Path, name: str, classifier: str, weights: Tensors, own: Mapping[str, list[int]]
) -> str:
    known = [key for key in own if key in weights]
    if len(known) > len(own) // 2:
        return (
            f"{file}: holds no classifier ({classifier}.weight), so it answers nothing yet; train "
            f"one on it: imgcls train DATA --model {name} --weights "
            f"{shlex.quote(str(file))}"
        )
    shown = ", ".join(list(weights)[:3])
    return (
        f"{file}: holds none of {name}'s classifier ({classifier}.weight); it has {shown}, ..."
        f"{_other_models(weights, name)}"
    )


def _other_models(weights: Tensors, name: str) -> str:
    """The models whose layers these are, as a hint; they are looked for by how many they have."""
    heads = [key for key in weights if _CLASSIFIER.search(key) and weights[key].ndim > 1]
    if not heads:
        return "; is it another --model?"
    head = heads[-1].removesuffix("weight")
    given = {k: list(v.shape) for k, v in weights.items() if not k.endswith(_OPTIONAL)}
    backbone = {k: shape for k, shape in given.items() if not k.startswith(head)}
    count = sum(weights[k].numel() for k in backbone if not k.endswith(_BUFFERS))
    inputs = weights[heads[-1]].shape[1]
    counts = {count + n * (inputs + 1) for n in _USUAL_OUTPUTS}
    near = [n for n, e in load_catalog().items() if e.parameters in counts and n != name]
    fitting = [
        other
        for other in near[:_MOST_TRIED]
        if backbone.items() <= _shapes(skeleton(other)).items()
    ]
    return (
        f"; its layers fit --model {' or '.join(fitting[:_MOST_NAMED])}"
        if fitting
        else ("; is it another --model?")
    )


def _require_same_answers(
    file: Path,
    model: nn.Module,
    config: ModelConfig,
    weights: Tensors,
    classifier: tuple[str, ...],
) -> None:
    """Raise ModelError unless the model answers as the file's own: backbone, then linear layer."""
    backbone = timm.create_model(
        config.name, pretrained=False, num_classes=0, **architecture_options(config)
    ).eval()
    layers = tuple(f"{name}." for name in classifier)
    backbone.load_state_dict({k: v for k, v in weights.items() if not k.startswith(layers)})
    size = pretrained_cfg_of(model)["input_size"]
    pictures = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    weight, bias = (weights.get(f"{classifier[0]}.{kind}") for kind in ("weight", "bias"))
    assert weight is not None
    with torch.no_grad():
        expected = nn.functional.linear(backbone(pictures), weight.flatten(1), bias)
        difference = (model(pictures) - expected).abs().max().item()
    if not difference <= _TOLERANCE * (1 + expected.abs().max().item()):
        raise ModelError(
            f"{file}: timm's {config.name} with these weights answers otherwise than its backbone "
            f"with the linear layer behind it (logits differ by {difference:.2g}), so it cannot "
            "stand for the old model"
        )


def _more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
