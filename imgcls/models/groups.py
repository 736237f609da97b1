"""A model's layers in groups from its input to its classifier, as timm groups them."""

from __future__ import annotations

from typing import cast

from timm.models import group_parameters
from torch import nn

from imgcls.errors import ModelError
from imgcls.models.build import classifier_names


def backbone_groups(model: nn.Module) -> list[list[nn.Parameter]]:
    """The backbone's parameters in groups (stem, stages or blocks), the classifier's left out.

    Raises ModelError for a model that timm does not group.
    """
    matcher = getattr(model, "group_matcher", None)
    if matcher is None:
        raise ModelError(
            "--tune last:N, --unfreeze-epochs: timm does not know this model's groups of layers; "
            "use --tune head or full"
        )
    groups = cast("dict[int, list[str]]", group_parameters(model, matcher(coarse=True)))
    prefixes = tuple(f"{name}." for name in classifier_names(model))
    parameters = dict(model.named_parameters())
    kept = (
        [parameters[name] for name in groups[key] if not name.startswith(prefixes)]
        for key in sorted(groups)
    )
    return [group for group in kept if group]


def freeze_but_last(model: nn.Module, count: int) -> None:
    """Leave the classifier and the last `count` groups as the only trainable ones.

    Raises ModelError when the model has fewer groups.
    """
    groups = backbone_groups(model)
    if count > len(groups):
        raise ModelError(
            f"--tune last:{count}: the model has {len(groups)} groups of layers before its "
            f"classifier; give last:1 to last:{len(groups)}, or full"
        )
    for group in groups[: len(groups) - count]:
        for parameter in group:
            parameter.requires_grad_(False)
