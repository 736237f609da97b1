"""What a checkpoint says of itself beside its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from imgcls.results.record import Record

_LARGEST_COUNT = 2**53
# of a surrogate pair, which JSON can hold and no file can
_HALF = re.compile("[\ud800-\udfff]")


def are_names(value: Any) -> bool:
    """True for one or more texts, no two alike, that can be written into a file."""
    if not isinstance(value, list) or not value or not all(map(_is_text, value)):
        return False
    return len(set(value)) == len(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not _HALF.search(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _LARGEST_COUNT


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < math.inf


def _is_prior(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("imbalance"), str):
        return False
    return isinstance(value.get("shares"), list) and all(map(_is_number, value["shares"]))


def _all_values(is_usable: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(is_usable, value.values()))


def _are_metrics(value: Any) -> bool:
    return _all_values(lambda v: v is None or _is_number(v))(value)


def _are_splits(value: Any) -> bool:
    return _all_values(_is_text)(value) and {"sha256", "assigned"} <= set(value)


@dataclass(frozen=True)
class TrainedPrior(Record):
    """How common the model takes each class to be, and the method of `--imbalance` behind that."""

    imbalance: str
    shares: tuple[float, ...]

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> TrainedPrior:
        """The prior that a sidecar holds."""
        return cls(content["imbalance"], tuple(content["shares"]))


_KINDS = ("pretrained", "random", "unknown")
_LONGEST_WORD = 120


@dataclass(frozen=True)
class StartingWeights(Record):
    """Which weights a training began with.

    kind: "pretrained" for published ones; "random" for none; "unknown" for a file's that does not
    say. name: theirs, `architecture.tag` as timm calls them. licence: as their publisher names it.
    None: not stated.
    """

    kind: str
    name: str | None = None
    licence: str | None = None

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> StartingWeights:
        """The record that a sidecar holds."""
        return cls(content["kind"], content.get("name"), content.get("licence"))

    @classmethod
    def of_card(cls, card: Mapping[str, Any]) -> StartingWeights:
        """What a model folder's config.json says."""
        cfg = card.get("pretrained_cfg")
        cfg = cfg if isinstance(cfg, dict) else card
        architecture, tag, licence = card.get("architecture"), cfg.get("tag"), cfg.get("license")
        licence = licence if _is_word(licence) else None
        if _is_word(tag) and _is_word(architecture):
            return cls("pretrained", f"{architecture}.{tag}", licence)
        return cls("unknown") if licence is None else cls("pretrained", None, licence)


def _is_word(value: Any) -> bool:
    return _is_text(value) and 0 < len(value) <= _LONGEST_WORD


def _are_starting_weights(value: Any) -> bool:
    if not isinstance(value, dict) or value.get("kind") not in _KINDS:
        return False
    return all(value.get(key) is None or _is_word(value[key]) for key in ("name", "licence"))


def _said(
    usable: Callable[[Any], bool], read: Callable[[Any], Any] = lambda value: value
) -> dict[str, Any]:
    """A field's metadata: what of a file is usable for it, and how it is read.

    A checkpoint's own hash does not tell who wrote it.
    """
    return {"usable": usable, "read": read, "left_out": True}


@dataclass(frozen=True, kw_only=True)
class Sidecar(Record):
    """What `checkpoint.json` says of a checkpoint, under these names and in this order.

    None: not said, by an earlier version, or of a model that no training of imgcls saved.
    config, versions and machine: what it was trained by, as JSON types. splits: see
    `imgcls.storage.splits.recorded_splits`. epoch and step: how many are behind it. metrics: the
    last epoch's row of history.csv. share: None, or its weights lie this share of the way from the
    fitted classifier's to the last epoch's, and metrics has their `val_` ones. best: whether it was
    the best when it was saved; finished: whether training was at its end.
    """

    fold: int | None = field(default=None, metadata=_said(_is_count))
    model_name: str | None = field(default=None, metadata=_said(_is_text))
    class_names: tuple[str, ...] = field(metadata=_said(are_names, tuple))
    val_pictures: int | None = field(default=None, metadata=_said(_is_count))
    prior: TrainedPrior | None = field(default=None, metadata=_said(_is_prior, TrainedPrior.read))
    config: Mapping[str, Any] | None = field(
        default=None, metadata=_said(_all_values(lambda value: isinstance(value, dict)))
    )
    starting_weights: StartingWeights | None = field(
        default=None, metadata=_said(_are_starting_weights, StartingWeights.read)
    )
    data_fingerprint: str | None = field(default=None, metadata=_said(_is_text))
    splits: Mapping[str, str] | None = field(default=None, metadata=_said(_are_splits))
    splitter: str | None = field(default=None, metadata=_said(_is_text))
    versions: Mapping[str, str | None] | None = field(
        default=None, metadata=_said(_all_values(lambda value: value is None or _is_text(value)))
    )
    machine: Mapping[str, str | int | None] | None = field(
        default=None,
        metadata=_said(_all_values(lambda v: v is None or _is_text(v) or _is_count(v))),
    )
    epoch: int | None = field(default=None, metadata=_said(_is_count))
    step: int | None = field(default=None, metadata=_said(_is_count))
    finished: bool | None = field(default=None, metadata=_said(_is_flag))
    metrics: Mapping[str, float | None] | None = field(default=None, metadata=_said(_are_metrics))
    share: float | None = field(default=None, metadata=_said(_is_number))
    best: bool | None = field(default=None, metadata=_said(_is_flag))

    @classmethod
    def read(cls, content: Any) -> Sidecar:
        """The record that JSON holds; names that it does not know are of a later version.

        Raises ValueError that says what of it is not usable.
        """
        if not isinstance(content, dict) or not are_names(content.get("class_names")):
            raise ValueError("does not hold the class names of a checkpoint")
        values = {}
        for one in fields(cls):
            value = content.get(one.name)
            if value is None:
                continue
            if not one.metadata["usable"](value):
                raise ValueError(f"its {one.name} is not usable; use another checkpoint")
            values[one.name] = one.metadata["read"](value)
        sidecar = cls(**values)
        if sidecar.prior and len(sidecar.prior.shares) != len(sidecar.class_names):
            raise ValueError("its prior is not of its classes; use another checkpoint")
        return sidecar

    def began_with(self, card: Mapping[str, Any]) -> StartingWeights:
        """The weights that its training began with. card: the config.json beside it."""
        if self.starting_weights is not None:
            return self.starting_weights
        model = (self.config or {}).get("model")
        if model is None or model.get("pretrained") is True:
            return StartingWeights.of_card(card)
        # an earlier version named timm's own weights in each card, wherever these came from
        is_random = model.get("pretrained") is False and model.get("weights") is None
        return StartingWeights("random" if is_random else "unknown")
