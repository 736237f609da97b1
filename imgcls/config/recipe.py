"""Options about what is trained, from where, and what is done for rare classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from imgcls.config.base import Config, Flag
from imgcls.config.imbalance import IMBALANCE_METHODS

# the checker of types reads no table
if TYPE_CHECKING:
    Imbalance = str
else:
    Imbalance = Literal[tuple(IMBALANCE_METHODS)]
Head = Literal["linear", "logistic"]
Preset = Literal["fast", "default", "best"]


class RecipeConfig(Config):
    """How a pretrained model is tuned, and how training meets rare classes."""

    preset: Preset = Field(
        default="default",
        description=(
            "How much time it is worth; the plan says how much it takes. fast: the "
            "classifier alone (--tune head). best: --folds 5 of the --model auto, where none is "
            "named, and the average of all folds evaluated on test, flipped too where training "
            "flips."
        ),
    )
    tune: Annotated[str, Flag(metavar="head|full|head+full|last:N|auto")] = Field(
        default="auto",
        pattern=r"^(auto|head|full|head\+full|last:[1-9]\d*)$",
        examples=["head, full, head+full, last:2"],
        description=(
            "What is trained. head: the classifier alone, from features that are computed once. "
            "full: everything from the start. head+full: first the classifier, then everything. "
            "last:N: first the classifier, then it and the last N groups of layers. auto: "
            "head+full from pretrained weights, full from scratch."
        ),
    )
    head: Head | Literal["auto"] = Field(
        default="auto",
        description=(
            "How the classifier alone is trained. logistic: scikit-learn's logistic regression, "
            "its regularisation chosen by inner cross-validation. linear: by epochs like "
            "everything else. auto: logistic."
        ),
    )
    feature_views: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        default="auto",
        description=(
            "Views of each picture whose features train the classifier alone: the evaluation view, "
            "and beyond 1 randomly changed ones, which cost one pass through the model each. auto: "
            "1."
        ),
    )
    unfreeze_epochs: int = Field(
        default=0,
        ge=0,
        description=(
            "Gradual unfreezing: train the classifier alone for so many epochs, then one more "
            "group of layers every so many; 0 trains all groups from the start."
        ),
    )
    norm_stats: Literal["auto", "frozen", "batch"] = Field(
        default="auto",
        description=(
            "Means and variances of batch norm layers while training: frozen as the weights came, "
            "or those of each batch. auto: frozen from pretrained weights, because those of small "
            "batches of a small set are noise; batch from scratch."
        ),
    )
    imbalance: Imbalance | Literal["auto"] = Field(
        default="auto",
        description=(
            "What is done for rare classes, each as its paper has it (examples/recipes). auto: "
            "logit-adjust where the largest class has 1.5 times the pictures of the smallest or "
            "more, else none."
        ),
    )
