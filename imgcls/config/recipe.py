"""Options about what is done for rare classes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from imgcls.config.base import Config

Imbalance = Literal[
    "none",
    "balanced-sampler",
    "weighted-loss",
    "effective-number",
    "focal",
    "logit-adjust",
    "balanced-softmax",
]


class RecipeConfig(Config):
    """How training meets rare classes."""

    imbalance: Imbalance | Literal["auto"] = Field(
        "auto",
        description=(
            "What is done for rare classes, each as its paper has it (examples/recipes). auto: "
            "logit-adjust where the largest class has 1.5 times the pictures of the smallest or "
            "more, else none."
        ),
    )
