"""Which output is which class: in the order of the data, and whether the answers agree with it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from imgcls.errors import DataError, ModelError
from imgcls.jobs.import_.source import Source
from imgcls.metrics.predictions import Predictions
from imgcls.models.build import classifier_names

_SHOWN = 3
# beyond it the table of answers is large
_MOST_MATCHED = 2000
# of the share that another order must win to be worth a word
_GAIN = 0.2


def in_order_of(names: tuple[str, ...], data: str, source: Source) -> Source:
    """The source with its outputs in the order of the data's classes, which a run has.

    Raises DataError unless the classes are the same.
    """
    own = source.class_names
    for one, other, of in (
        (names, own, f"{data} has a class"),
        (own, names, "the model has a class"),
    ):
        only = [name for name in one if name not in other]
        if only:
            rest = f" and {len(only) - 1} more" if len(only) > 1 else ""
            knows = "the model does not know" if one is names else f"{data} has no pictures of"
            raise DataError(
                f"--data {data}: {of} {knows}: {only[0]!r}{rest}; a run needs the same classes: "
                "without --data a checkpoint is made, that other pictures can be evaluated with"
            )
    if names == own:
        return source
    order = torch.tensor([own.index(name) for name in names])
    fitted = source.fitted
    size = source.preprocessing.input_size
    probe = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    weights = _reordered(source, fitted.weights, order)
    raw = None if fitted.raw is None else _reordered(source, fitted.raw, order)
    with torch.no_grad():
        before = fitted.model(probe)
        fitted.model.load_state_dict(weights)
        after = fitted.model(probe)
    if not torch.allclose(before[:, order], after, rtol=1e-4, atol=1e-4):
        raise ModelError(
            f"{source.file}: the outputs of {source.name} cannot be brought into the order of the "
            f"data's classes ({', '.join(names[:3])}, ...); import it without --data"
        )
    moved = replace(fitted, weights=weights, raw=raw)
    return replace(source, fitted=moved, class_names=names, order=order)


def _reordered(
    source: Source, weights: Mapping[str, torch.Tensor], order: torch.Tensor
) -> dict[str, torch.Tensor]:
    return {name: reorder(source, name, value, order) for name, value in weights.items()}


def reorder(
    source: Source, name: str, value: torch.Tensor, order: torch.Tensor | None
) -> torch.Tensor:
    """A parameter or a moment of it, its rows in the order of the outputs."""
    layers = classifier_names(source.fitted.model)
    is_head = name.rpartition(".")[0] in layers
    return value[order] if is_head and order is not None else value


def in_another_order(predictions: Predictions, source: Source) -> list[str]:
    """A warning where the model is no better than chance on its classes, or another order fits.

    The best other order is found by the assignment problem (Kuhn, 1955) over the table of how many
    pictures of a class get which answer.
    """
    labels, predicted = predictions.labels, predictions.predicted
    count, classes = len(labels), len(source.class_names)
    accuracy = float((labels == predicted).mean())
    largest = float(np.bincount(labels, minlength=classes).max() / count)
    if classes <= _MOST_MATCHED:
        best, order = _best_order(labels, predicted, classes)
    else:
        best, order = accuracy, np.arange(classes)
    told = []
    chance = largest + 2 * math.sqrt(largest * (1 - largest) / count)
    if accuracy <= chance:
        told.append(
            f"accuracy {accuracy:.1%} on {count:,} val pictures is no better than naming the "
            f"largest class ({largest:.1%}): check the order of the classes "
            f"({source.names_from}), the input (--mean, --std, --img-size) and --model"
        )
    if best >= accuracy + _GAIN and best > chance:
        names = source.class_names
        moved = [n for n in range(classes) if order[n] != n]
        shown = ", ".join(f"{names[n]!r} looks like {names[order[n]]!r}" for n in moved[:_SHOWN])
        more = f" and {len(moved) - _SHOWN} more" if len(moved) > _SHOWN else ""
        told.append(
            f"with the classes in another order the accuracy would be {best:.1%}: what is called "
            f"{shown}{more}; mend --classes and import again"
        )
    return told


def _best_order(
    labels: np.ndarray, predicted: np.ndarray, classes: int
) -> tuple[float, np.ndarray]:
    """(the highest accuracy by any names for the outputs, for each output the class it names)."""
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (predicted, labels), 1)
    outputs, named = linear_sum_assignment(table, maximize=True)
    return float(table[outputs, named].sum() / len(labels)), named
