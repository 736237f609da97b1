"""What of a training's memory can be counted, and a guess of the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from imgcls.engine.device.memory import guess_training_memory_mib
from imgcls.jobs.plan.cost.fitting import fits_whole
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.plan.learner import Built
from imgcls.jobs.plan.recipe import Recipe
from imgcls.models.head import ClassifierAlone, classifier_alone

_MIB = 2**20
# what fit_logistic takes, of the features that it is given: 6.1 to 6.4 for 1,000 pictures and more,
# and those once more
_FIT_TIMES_FEATURES = 7.5
# what fit_in_blocks takes: of L-BFGS's copies in float64 and ours, and for its blocks; measured by
# tests/benchmarks/large_head.py
_FIT_TIMES_WEIGHTS, _FIT_IN_BLOCKS_MIB = 40, 200


@dataclass(frozen=True)
class Counted:
    """MiB of a training, by what takes them.

    assembled_mib: the model and its average, on the device. copy_mib: the weights that training
    began with, where it keeps them, and the copy of all that a checkpoint is written from while
    training goes on. features_mib: those that are kept; fit_mib: fitting the
    classifier on them. On cuda these three are no memory of the device and 0. guessed_mib: all that
    training in batches of so many pictures takes, by a pass that computes nothing.
    """

    assembled_mib: float
    copy_mib: float
    features_mib: float
    fit_mib: float
    guessed_mib: Callable[[int], float]


def guess(
    built: Built, precision: torch.dtype | None, *, divided_among: int = 1
) -> Callable[[int], float]:
    """A function from the pictures of a batch to the MiB that training with them may take.

    divided_among: so many processes, of which each has all its weights while it validates, and
    its part of the pictures.
    """
    average, input_size = built.learner.average, built.preprocessing.input_size
    one, two = (
        guess_training_memory_mib(built.whole, input_size, pictures, half=precision is not None)
        for pictures in (1, 2)
    )
    fixed_mib = 2 * one - two
    if average is not None:
        fixed_mib += _tensors_mib(average.model.state_dict())
    if divided_among > 1:
        fixed_mib = fixed_mib / divided_among + _tensors_mib(built.whole.state_dict())
    return partial(_on_line, fixed_mib, (two - one) / divided_among)


def _on_line(fixed_mib: float, each_mib: float, pictures: int) -> float:
    return fixed_mib + each_mib * pictures


def count(
    built: Built, guessed_mib: Callable[[int], float], data: DataPlan, recipe: Recipe
) -> Counted:
    """What is counted of a learner that has made an update."""
    learner = built.learner
    weights = built.whole.state_dict()
    averaged = {} if learner.average is None else learner.average.model.state_dict()
    assembled_mib = _tensors_mib(weights) + _tensors_mib(averaged)
    if learner.compute.device.type == "cuda":
        return Counted(assembled_mib, 0.0, 0.0, 0.0, guessed_mib)
    states_mib = sum(map(_tensors_mib, learner.optimizer.state.values()))
    # where the line between the first weights and the last begins, and that once more in the copy
    line_mib = 2 * _tensors_mib(weights) if recipe.interpolates else 0.0
    features_mib, fit_mib = _features_mib(built, data, recipe)
    return Counted(
        assembled_mib, assembled_mib + states_mib + line_mib, features_mib, fit_mib, guessed_mib
    )


def _features_mib(built: Built, data: DataPlan, recipe: Recipe) -> tuple[float, float]:
    """(of all pictures' features, of fitting the classifier on those of the training pictures)."""
    if not (recipe.fits_head or recipe.from_features):
        return 0.0, 0.0
    model = built.learner.model
    alone = model if isinstance(model, ClassifierAlone) else classifier_alone(built.whole)
    weight = alone.classifier.weight
    assert isinstance(weight, torch.Tensor)
    each_mib = recipe.feature_views * weight.shape[1] * 4 / _MIB
    trained = len(data.rows("train", data.folds[0]))
    fit_mib = 0.0
    if recipe.fits_head:
        num_classes, width = weight.shape
        if fits_whole(recipe.feature_views, trained, width, num_classes):
            fit_mib = _FIT_TIMES_FEATURES * each_mib * trained
        else:
            fit_mib = _FIT_IN_BLOCKS_MIB + _FIT_TIMES_WEIGHTS * weight.numel() * 8 / _MIB
    return each_mib * int((data.assignment.split != "test").sum()), fit_mib


def _tensors_mib(state: Mapping[str, Any]) -> float:
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / _MIB
