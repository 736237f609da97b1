"""Another training's optimizer state, parameter by parameter, for the one that goes on with it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

# what says where a training stands, or how a step is computed, and not what it computes
_OF_STEPS = {"params", "lr", "initial_lr", "name", "param_names", "lr_scale", "foreach", "fused"}
_OF_STEPS |= {"capturable", "differentiable", "max_lr", "min_lr", "max_momentum", "base_momentum"}
_ADAM = {"betas", "eps", "weight_decay", "amsgrad"}
_SGD = {"momentum", "dampening", "weight_decay", "nesterov"}
_NEWER = {"maximize", "decoupled_weight_decay"}
_OTHERWISE = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError)
_MOMENTS = {
    "adam": {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
    "sgd": {"momentum_buffer"},
}


class UnmatchedError(Exception):
    """Why a training cannot go on, in words that follow "it cannot be resumed: "."""


@contextlib.contextmanager
def as_torch_writes_it() -> Iterator[None]:
    """A block that reads a state of another hand; what is not as torch writes it is unmatched."""
    try:
        yield
    except _OTHERWISE as error:
        raise UnmatchedError("its optimizer's state is not as torch writes it") from error


@dataclass(frozen=True)
class Optimizer:
    """An optimizer that another training used, in timm's words.

    lr: of the last update; peak_lr: the one that its schedule started from. note: what was taken
    for granted, or None.
    """

    opt: str
    lr: float
    peak_lr: float
    weight_decay: float
    momentum: float
    note: str | None

    @property
    def settings(self) -> dict[str, Any]:
        """As options of `train`."""
        return {"opt": self.opt, "weight_decay": self.weight_decay, "momentum": self.momentum}


@as_torch_writes_it()
def recognise(state: Mapping[str, Any] | None, said: str | None) -> Optimizer:
    """The optimizer that a state dict is of; said: its name, as far as it is known.

    Raises UnmatchedError for one that `train` has not in the same form.
    """
    groups = _groups(state)
    names = set(groups[0]) - _OF_STEPS - _NEWER
    shown = ", ".join(sorted(map(str, names)))
    if names == _ADAM:
        family, opt, note = "adam", *_adam_or_adamw(groups[0], said)
    elif names == _SGD:
        family, note = "sgd", None
        opt = "sgd" if groups[0]["nesterov"] else "momentum"
        if said is not None and said != opt:
            raise UnmatchedError(f"its optimizer's state is {opt}'s, not {said}'s")
    else:
        raise UnmatchedError(f"its optimizer is neither Adam, AdamW nor SGD (it has {shown})")
    assert state is not None
    kept = {key for one in state["state"].values() for key in one}
    if not kept <= _MOMENTS[family]:
        other = ", ".join(sorted(map(str, kept - _MOMENTS[family])))
        raise UnmatchedError(f"its {opt} keeps more than torch's ({other})")
    rates = {(float(g["lr"]), float(g.get("initial_lr", g["lr"]))) for g in groups}
    if len(rates) > 1:
        told = ", ".join(f"{lr:.3g}" for lr in sorted({lr for lr, _ in rates}))
        raise UnmatchedError(f"its layers have learning rates of their own ({told})")
    [(lr, peak)] = rates
    return Optimizer(
        opt=opt,
        lr=lr,
        peak_lr=peak,
        weight_decay=max(float(group["weight_decay"]) for group in groups),
        momentum=float(groups[0].get("momentum", 0.9)),
        note=note,
    )


def _groups(state: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    if state is None:
        raise UnmatchedError("the file holds no state of an optimizer")
    groups, moments = state.get("param_groups"), state.get("state")
    if (
        not isinstance(groups, list)
        or not groups
        or not all(isinstance(g, dict) and {"params", "lr"} <= set(g) for g in groups)
        or not isinstance(moments, Mapping)
        or not all(isinstance(one, Mapping) for one in moments.values())
    ):
        raise UnmatchedError("its optimizer's state is none of torch's")
    return groups


def _adam_or_adamw(group: Mapping[str, Any], said: str | None) -> tuple[str, str | None]:
    decoupled = group.get("decoupled_weight_decay")
    if said not in (None, "adam", "adamw"):
        raise UnmatchedError(f"its optimizer's state is Adam's or AdamW's, not {said}'s")
    if decoupled is not None and group["weight_decay"]:
        known = "adamw" if decoupled else "adam"
        if said not in (None, known):
            raise UnmatchedError(f"its optimizer's state is {known}'s, not {said}'s")
        return known, None
    if said is not None:
        return said, None
    if not group["weight_decay"]:  # then the two are the same
        return ("adamw" if decoupled else "adam"), None
    return "adamw", "its state may be Adam's or AdamW's and is taken for AdamW's; else --opt adam"


@as_torch_writes_it()
def carried_over(
    state: Mapping[str, Any],
    optimizer: torch.optim.Optimizer,
    model: nn.Module,
    *,
    order: Sequence[str],
    heads: Sequence[str],
    reorder: Callable[[str, torch.Tensor], torch.Tensor],
) -> dict[str, Any]:
    """The state for `optimizer.load_state_dict`: the other's moments and hyperparameters.

    order: the model's parameters in the order that the other training had them, the classifier's
    (`heads`) last. reorder: brings a parameter's moment into the order of the outputs. Learning
    rates stay the optimizer's. Raises UnmatchedError where a moment finds no parameter.
    """
    groups = _groups(state)
    named = dict(model.named_parameters())
    name_of = {id(parameter): name for name, parameter in named.items()}
    own = [[name_of[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    numbers = [number for group in groups for number in group["params"]]
    if numbers != list(range(len(numbers))):
        raise UnmatchedError("its optimizer's state is not as torch writes it")
    if len(numbers) != len(order):
        raise UnmatchedError(
            f"its optimizer has {len(numbers)} parameters, the model {len(order)}: the others were "
            "not trained"
        )
    moments = state["state"]
    if moments and len(moments) < len(numbers):
        raise UnmatchedError(
            f"its optimizer moved {len(moments)} of the model's {len(numbers)} parameters: the "
            "others were not trained"
        )
    candidates = _orders(order, heads, own, [len(group["params"]) for group in groups])
    placed = next((names for names in candidates if _fits(moments, names, named)), None)
    if placed is None:
        raise UnmatchedError("its optimizer's moments do not have the shapes of the parameters")
    number_of = {name: number for number, name in enumerate(placed)}
    group_of = {name: group for group, name in zip(_repeated(groups), placed, strict=True)}
    template = optimizer.state_dict()
    flat = [name for names in own for name in names]
    return {
        "state": {
            index: {
                key: _moment(key, value, name, named[name], reorder)
                for key, value in moments[number_of[name]].items()
                if value is not None
            }
            for index, name in enumerate(flat)
            if number_of[name] in moments
        },
        "param_groups": [
            {**mine, **_hyperparameters([group_of[name] for name in names], mine)}
            for mine, names in zip(template["param_groups"], own, strict=True)
        ],
    }


def _repeated(groups: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [group for group in groups for _ in group["params"]]


def _orders(
    order: Sequence[str], heads: Sequence[str], own: list[list[str]], sizes: list[int]
) -> list[list[str]]:
    """The orders that the other optimizer may have had its parameters in, the likeliest first."""
    as_ours = [name for names in own for name in names]
    in_model = list(order)
    head_first = [n for n in order if n in heads] + [n for n in order if n not in heads]
    if len(sizes) > 1 and sizes == [len(names) for names in own]:
        return [as_ours, in_model, head_first]
    return [in_model, head_first]


def _fits(
    moments: Mapping[Any, Mapping[str, Any]],
    names: Sequence[str],
    named: Mapping[str, nn.Parameter],
) -> bool:
    for number, name in enumerate(names):
        for key, value in moments.get(number, {}).items():
            if key == "step" or value is None:
                continue
            if not isinstance(value, torch.Tensor) or value.numel() != named[name].numel():
                return False
            # a linear classifier may be a convolution of one pixel here
            if value.squeeze().shape != named[name].squeeze().shape:
                return False
    return True


def _moment(
    key: str,
    value: Any,
    name: str,
    parameter: nn.Parameter,
    reorder: Callable[[str, torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    if key == "step":
        return torch.tensor(float(value), dtype=torch.float32)
    if not value.isfinite().all():
        raise UnmatchedError(f"its optimizer's {key} of {name} holds inf or nan")
    # laid out as the parameter is: torch's fused step takes both by their order in memory
    moment = torch.empty_like(parameter, requires_grad=False)
    return moment.copy_(reorder(name, value).reshape(parameter.shape))


def _hyperparameters(
    theirs: Sequence[Mapping[str, Any]], mine: Mapping[str, Any]
) -> dict[str, Any]:
    """What the other optimizer had for the parameters of one group of ours."""
    found: dict[str, Any] = {}
    for key in (_ADAM | _SGD | {"maximize"}) & mine.keys() & theirs[0].keys():
        values = [tuple(v) if isinstance(v := group[key], (list, tuple)) else v for group in theirs]
        if any(value != values[0] for value in values):
            raise UnmatchedError(
                f"its layers have a {key} of their own, grouped otherwise than here"
            )
        numbers = values[0] if isinstance(values[0], tuple) else (values[0],)
        if not all(math.isfinite(number) for number in numbers):
            raise UnmatchedError(f"its optimizer's {key} is {values[0]}")
        found[key] = values[0]
    return found
