"""Which model is trained, from which weights, on pictures of which size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from imgcls.config.model import ModelConfig
from imgcls.data.table import SampleTable
from imgcls.models.architecture import own_rates
from imgcls.models.build import create_model, has_one_classifier, native_img_size
from imgcls.models.hub import published_weights
from imgcls.models.licences import licence_advice
from imgcls.results.checkpoint import StartingWeights
from imgcls.storage.model_folder import began_with


@dataclass(frozen=True)
class ModelPlan:
    """The model of a run: nothing of `config` is `auto`.

    pretrained: timm's weights are fetched. img_size: the side of its input, in pixels.
    one_classifier: False for distilled models, whose two see different features. starting_weights:
    what its training begins with. reasons: a line for each rate of dropout that is the
    architecture's own. notes: one on a licence that asks for more than a notice.
    """

    config: ModelConfig
    pretrained: bool
    img_size: int
    one_classifier: bool
    starting_weights: StartingWeights
    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def from_weights(self) -> bool:
        """True when the backbone starts from weights of another training."""
        return self.pretrained or self.config.weights is not None

    def resolved(self) -> dict[str, dict[str, Any]]:
        """The config's own fields that this decides."""
        return {"model": dict(self.config)}

    def build(self) -> nn.Module:
        """The model with random weights, to be measured."""
        return create_model(self.config.model_copy(update={"pretrained": False, "weights": None}))


def plan_model(
    config: ModelConfig, table: SampleTable, recorded: StartingWeights | None = None
) -> ModelPlan:
    """The model for these pictures. Raises ModelError for a name that timm has not.

    recorded: what the training began with, for one that goes on.
    """
    source = table.defaults
    pretrained = (
        source.pretrained and config.weights is None
        if config.pretrained == "auto"
        else config.pretrained
    )
    img_size = (
        source.img_size or native_img_size(config.name)
        if config.img_size == "auto"
        else config.img_size
    )
    rates, reasons = _rates(config)
    begins_with = recorded or _starting_weights(config, pretrained=pretrained)
    found = {
        "pretrained": pretrained,
        "img_size": img_size,
        **rates,
        "num_classes": len(table.class_names),
    }
    return ModelPlan(
        config=config.model_copy(update=found),
        pretrained=pretrained,
        img_size=img_size,
        one_classifier=has_one_classifier(config.name),
        starting_weights=begins_with,
        reasons=reasons,
        notes=() if recorded else tuple(_licence_notes(begins_with, config)),
    )


def _starting_weights(config: ModelConfig, *, pretrained: bool) -> StartingWeights:
    if config.weights is not None:
        return began_with(config.weights)
    return published_weights(config.name) if pretrained else StartingWeights("random")


def _licence_notes(weights: StartingWeights, config: ModelConfig) -> Iterator[str]:
    if weights.kind == "unknown":
        yield (
            f"--weights {config.weights}: does not say whose weights these are, nor under which "
            "licence; find out before you use the model or pass it on"
        )
    elif weights.kind == "pretrained" and (advice := licence_advice(weights.licence)):
        yield f"{weights.name or config.weights}: {advice}"


def _rates(model: ModelConfig) -> tuple[dict[str, float], tuple[str, ...]]:
    """Dropout and stochastic depth in force, and a line for each that is the architecture's own."""
    given = {"dropout": model.dropout, "drop_path_rate": model.drop_path_rate}
    own = own_rates(model.name) if "auto" in given.values() else (0.0, 0.0)
    words = ("dropout", "stochastic depth")
    rates: dict[str, float] = {}
    reasons = []
    for (name, rate), default, word in zip(given.items(), own, words, strict=True):
        rates[name] = default if rate == "auto" else rate
        if rate == "auto" and default:
            reasons.append(f"{word} {default:g}: {model.name}'s own")
    return rates, tuple(reasons)
