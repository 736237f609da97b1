"""What `auto` stands for in the recipe of a training, and why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgcls.config.recipe import Imbalance
from imgcls.config.run import Monitor, TrainConfig

# below it, classes differ by what a stratified split does to them anyway
UNBALANCED_FROM = 1.5


@dataclass(frozen=True)
class Recipe:
    """The resolved recipe. imbalance_ratio: pictures of the largest class over the smallest's."""

    imbalance: Imbalance
    imbalance_ratio: float
    monitor: Monitor

    @property
    def unbalanced(self) -> bool:
        """True when the training pictures are far from evenly spread over the classes."""
        return self.imbalance_ratio >= UNBALANCED_FROM


def plan_recipe(config: TrainConfig, class_counts: np.ndarray) -> Recipe:
    """The recipe for a config and the training pictures of each class, int64 [C]."""
    ratio = float(class_counts.max() / max(class_counts.min(), 1))
    unbalanced = ratio >= UNBALANCED_FROM
    imbalance, monitor = config.recipe.imbalance, config.early_stopping.metric
    if imbalance == "auto":
        imbalance = "logit-adjust" if unbalanced else "none"
    if monitor == "auto":
        monitor = "val_balanced_accuracy" if unbalanced else "val_accuracy"
    return Recipe(imbalance, ratio, monitor)
