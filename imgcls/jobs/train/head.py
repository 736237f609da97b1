"""The classifier, fitted alone before anything else is trained."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from imgcls.data.loading.features import FeatureSet
from imgcls.engine.device.runtime import derive_seed
from imgcls.engine.training.events import Event, HeadFitted
from imgcls.engine.training.step import Learner
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.train.logistic import fit_logistic
from imgcls.models.head import ClassifierAlone, classifier_alone, set_classifier


def fit_head(
    data: DataPlan,
    fold: int,
    learner: Learner,
    features_of: Callable[[ClassifierAlone], FeatureSet],
    emit: Callable[[Event], None],
    *,
    imbalance: str,
    seed: int,
) -> None:
    """Fit the fold's classifier by logistic regression, and give it to the model and its average.

    features_of: the features that a classifier's backbone gives of the run's pictures. Raises
    ModelError when the classifier is not one linear layer behind the backbone.
    """
    start_s = time.monotonic()
    model = learner.model
    alone = model if isinstance(model, ClassifierAlone) else classifier_alone(model)
    features = features_of(alone)
    features_s = time.monotonic() - start_s
    rows = features.readable(data.rows("train", fold))
    groups = data.table.groups
    fitted = fit_logistic(
        np.stack([features.of(rows, view) for view in range(len(features.values))]),
        data.table.labels[rows],
        len(data.class_names),
        imbalance=imbalance,
        seed=derive_seed(seed, "head", fold),
        groups=None if groups is None else [groups[row] for row in rows],
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
