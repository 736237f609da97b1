"""The classifier, fitted alone before anything else is trained."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from imgcls.data.loading.features import FeatureSet
from imgcls.engine.device.runtime import derive_seed
from imgcls.engine.training.events import Event, HeadFitted
from imgcls.engine.training.step import Learner
from imgcls.jobs.plan.cost.fitting import fits_whole
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.train.head.in_blocks import fit_in_blocks
from imgcls.jobs.train.head.logistic import FittedHead, fit_logistic
from imgcls.models.head import ClassifierAlone, classifier_alone, set_classifier
from imgcls.storage.caches import FitFile, fit_file


def fit_head(
    data: DataPlan,
    fold: int,
    learner: Learner,
    features_of: Callable[[ClassifierAlone], FeatureSet],
    emit: Callable[[Event], None],
    *,
    on_pass: Callable[[int, int], None],
    imbalance: str,
    seed: int,
    run: Path,
) -> None:
    """Fit the fold's classifier by logistic regression, and give it to the model and its average.

    features_of: the features that a classifier's backbone gives of the run's pictures. on_pass is
    told (passes over them, passes at most) where they are too many to be fitted whole. run: where
    such a fit is kept on its way. Raises ModelError when the classifier is not one linear layer
    behind the backbone.
    """
    start_s = time.monotonic()
    model = learner.model
    alone = model if isinstance(model, ClassifierAlone) else classifier_alone(model)
    features = features_of(alone)
    features_s = time.monotonic() - start_s
    rows = features.readable(data.rows("train", fold))
    fitted = _fit(
        data,
        rows,
        features,
        alone,
        on_pass,
        imbalance=imbalance,
        seed=derive_seed(seed, "head", fold),
        keep=fit_file(run, fold),
    )
    set_classifier(alone.classifier, fitted.weight, fitted.bias)
    if learner.average is not None:
        learner.average.restart(learner.model)
    emit(
        HeadFitted(
            pictures=len(rows),
            views=len(features.values),
            c=fitted.c,
            folds=fitted.folds,
            features_s=features_s,
            elapsed_s=time.monotonic() - start_s,
            reason=fitted.reason,
        )
    )


def _fit(
    data: DataPlan,
    rows: np.ndarray,
    features: FeatureSet,
    alone: ClassifierAlone,
    on_pass: Callable[[int, int], None],
    *,
    imbalance: str,
    seed: int,
    keep: FitFile | None,
) -> FittedHead:
    """The fit to these rows of the table, whole or in blocks."""
    labels, num_classes = data.table.labels[rows], len(data.class_names)
    groups = None if data.table.groups is None else [data.table.groups[row] for row in rows]
    views, _, width = features.values.shape
    if fits_whole(views, len(rows), width, num_classes):
        inputs = np.stack([features.of(rows, view) for view in range(views)])
        return fit_logistic(
            inputs, labels, num_classes, imbalance=imbalance, seed=seed, groups=groups
        )
    return fit_in_blocks(
        features,
        rows,
        labels,
        num_classes,
        imbalance=imbalance,
        seed=seed,
        device=next(alone.classifier.parameters()).device,
        groups=groups,
        on_pass=on_pass,
        keep=keep,
    )
