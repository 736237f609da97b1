"""What `auto` stands for in the recipe of a training, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from imgcls.config.augment import Augmentation, AugmentConfig
from imgcls.config.imbalance import IMBALANCE_METHODS, ImbalanceMethod
from imgcls.config.recipe import Head, Imbalance
from imgcls.config.run import Monitor, TrainConfig
from imgcls.data.pixels.augmentation import augmentation
from imgcls.data.table import SourceDefaults
from imgcls.errors import ConfigError
from imgcls.metrics.registry import VALIDATION

# below it, classes differ by what a stratified split does to them anyway
UNBALANCED_FROM = 1.5
# more were no better on six sets, and cost a pass over the pictures each (examples/recipes)
_AUTO_VIEWS = 1


@dataclass(frozen=True)
class Recipe:
    """Which layers are trained, and how: loss, augmentation, averages; nothing is `auto`.

    augment: of the pictures that epochs train on, and of the changed views in `feature_views`.
    imbalance_ratio: pictures of the largest class over the smallest's. from_weights: the backbone
    starts from weights of another training. one_classifier: False for
    distilled models, whose two classifiers see different features.
    """

    from_weights: bool
    tune: str
    head: Head
    feature_views: int
    unfreeze_epochs: int
    frozen_norms: bool
    model_ema: bool
    augment: Augmentation
    imbalance: Imbalance
    imbalance_ratio: float
    monitor: Monitor
    one_classifier: bool

    @property
    def unbalanced(self) -> bool:
        """True when the training pictures are far from evenly spread over the classes."""
        return self.imbalance_ratio >= UNBALANCED_FROM

    @property
    def imbalance_method(self) -> ImbalanceMethod:
        """What is done for rare classes."""
        return IMBALANCE_METHODS[self.imbalance]

    @property
    def fits_head(self) -> bool:
        """True when the classifier is fitted by itself before anything else."""
        return self.tune != "full" and self.head == "logistic"

    @property
    def head_only(self) -> bool:
        """True when the classifier is all that is trained."""
        return self.tune == "head"

    @property
    def fits_only(self) -> bool:
        """True when the fitted classifier is all there is to do, without any epochs."""
        return self.head_only and self.fits_head

    @property
    def interpolates(self) -> bool:
        """True when weights between the fitted classifier's and the last epoch's compete too."""
        return self.fits_head and not self.head_only

    @property
    def grows_too_sure(self) -> bool:
        """True when layers are fine-tuned by a loss that asks for ever more certainty."""
        softened = (
            self.augment.mixes
            or self.augment.smoothing > 0
            or self.imbalance_method.focal_gamma > 0
        )
        return self.from_weights and not self.head_only and not softened

    @property
    def from_features(self) -> bool:
        """True when training and validation need nothing but features that are computed once."""
        if not self.one_classifier:
            return False
        changed_whole = self.augment.mixes or self.augment.reprob > 0
        in_views = self.feature_views > 1 and not changed_whole
        return self.head_only and (self.fits_head or self.augment.is_none or in_views)

    @property
    def groups_trained(self) -> int | None:
        """The number of groups of layers before the classifier that are trained; None for all."""
        kind, _, count = self.tune.partition(":")
        return int(count) if kind == "last" else None

    def describe(self) -> str:
        """The recipe in a line for the plan."""
        views = f" in {self.feature_views} views" if self.feature_views > 1 else ""
        fitted = f"logistic regression on features{views}"
        by_epochs = f"by epochs, {self.augment.preset} augmentation"
        if self.fits_only:
            return f"the classifier alone, {fitted}"
        first = f"the classifier by {fitted}, then " if self.fits_head else ""
        if self.groups_trained is not None:
            what = f"it and the last {self.groups_trained} groups of layers"
        else:
            what = "the classifier alone" if self.head_only else "all layers"
        extras = [
            *(["frozen norm statistics"] if self.frozen_norms else []),
            *(["averaged weights"] if self.model_ema else []),
        ]
        return ", ".join([f"{first}{what} {by_epochs}", *extras])

    def resolved(self) -> dict[str, dict[str, Any]]:
        """The config's own fields with nothing left `auto`."""
        augment = {name: getattr(self.augment, name) for name in AugmentConfig.model_fields}
        return {
            "recipe": {
                "tune": self.tune,
                "head": self.head,
                "feature_views": self.feature_views,
                "norm_stats": "frozen" if self.frozen_norms else "batch",
                "imbalance": self.imbalance,
            },
            "augment": augment,
            "model": {"freeze_backbone": self.head_only},
            "optim": {"model_ema": self.model_ema},
            "early_stopping": {"metric": self.monitor},
        }


def plan_recipe(
    config: TrainConfig,
    class_counts: np.ndarray,
    source: SourceDefaults,
    *,
    from_weights: bool,
    one_classifier: bool,
) -> Recipe:
    """The recipe for a config and the training pictures of each class, int64 [C].

    from_weights: the backbone starts from weights of another training. one_classifier: see Recipe.
    Raises ConfigError for options that do not go together.
    """
    ratio = float(class_counts.max() / max(class_counts.min(), 1))
    unbalanced = ratio >= UNBALANCED_FROM
    recipe, optim, monitor = config.recipe, config.optim, config.early_stopping.metric
    imbalance = recipe.imbalance
    if imbalance == "auto":
        imbalance = "logit-adjust" if unbalanced else "none"
    if monitor == "auto":
        monitor = "val_balanced_accuracy" if unbalanced else "val_accuracy"
    _check_monitor(monitor, len(class_counts))
    tune = _tune(config, from_weights=from_weights)
    head = recipe.head
    if head == "auto":
        head = "logistic" if tune != "full" and one_classifier else "linear"
    views = recipe.feature_views
    if views == "auto":
        views = _AUTO_VIEWS
    _check_head(tune, head, views)
    pictures, channels = int(class_counts.sum()), config.model.in_chans
    augment = augmentation(
        config.augment,
        source,
        pictures,
        channels=channels,
        head_only=tune == "head" and views == 1,
    )
    if augment.mixes and config.data.batch_size == 1:
        raise ConfigError("data.batch_size: 1 leaves nothing to mix; mixup and cutmix need 2")
    return Recipe(
        from_weights=from_weights,
        tune=tune,
        head=head,
        feature_views=views,
        unfreeze_epochs=recipe.unfreeze_epochs,
        frozen_norms=(
            from_weights if recipe.norm_stats == "auto" else recipe.norm_stats == "frozen"
        ),
        model_ema=(
            from_weights and tune != "head" if optim.model_ema == "auto" else optim.model_ema
        ),
        augment=augment,
        imbalance=imbalance,
        imbalance_ratio=ratio,
        monitor=monitor,
        one_classifier=one_classifier,
    )


def _check_monitor(monitor: Monitor, num_classes: int) -> None:
    [metric] = (column.metric for column in VALIDATION if column.name == monitor)
    if num_classes <= metric.more_classes_than:
        raise ConfigError(
            f"early_stopping.metric (--eval-metric) {monitor}: is undefined with {num_classes} "
            "classes, which are no more than that; take another, such as val_accuracy"
        )


def _tune(config: TrainConfig, *, from_weights: bool) -> str:
    tune = config.recipe.tune
    if config.model.freeze_backbone:
        if tune not in ("auto", "head"):
            raise ConfigError(f"recipe.tune: {tune} does not go with model.freeze_backbone: true")
        return "head"
    if tune == "auto" and config.recipe.preset == "fast":
        if not from_weights:
            raise ConfigError(
                "recipe.preset (--preset): fast trains the classifier alone, on features of "
                "pretrained weights, and this model starts from scratch; give --weights or "
                "--pretrained, or leave --preset out"
            )
        return "head"
    if tune == "auto":
        return "head+full" if from_weights else "full"
    return tune


def _check_head(tune: str, head: Head, views: int) -> None:
    if tune == "full" and head == "logistic":
        raise ConfigError(
            "recipe.head (--head): logistic fits the classifier alone; give --tune head, "
            "head+full or last:N"
        )
    if views > 1 and tune != "head" and head != "logistic":
        raise ConfigError(
            "recipe.feature_views (--feature-views): needs a classifier that is trained alone; "
            "give --tune head or --head logistic"
        )
