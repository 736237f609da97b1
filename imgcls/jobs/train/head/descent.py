"""One penalised fit: L-BFGS in variables in which all directions are about as steep."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import numpy as np

from imgcls.jobs.train.head.loss_in_blocks import LossInBlocks

# steps that it looks back on, each two tables; with these variables more save no pass
_STEPS_KEPT = 5
# of the mean curvature of all classes, so that a class which no picture is near is not overrun
_LEAST_CURVATURE = 1e-4


class _EnoughError(Exception):
    """The fit is close enough, or has made as many passes as it may."""


def fit_from(
    table: np.ndarray,
    loss: LossInBlocks,
    positions: np.ndarray,
    c: float,
    *,
    tolerance: float,
    most_passes: int,
    on_pass: Callable[[], None],
) -> np.ndarray:
    """A table fitted to the pictures at these positions at an inverse regularisation C, from here.

    It ends when what a Newton step would still gain is, by an estimate, below `tolerance` of the
    objective, or after so many passes. The estimate takes the Hessian for that of a softmax whose
    classes are apart: for the weights of a class along an axis of the features' covariance, the
    axis's variance times the class's mean p (1 - p), and the penalty (the diagonal of Boehning's
    1992 bound, at the probabilities of the beginning). By its root the variables are scaled.
    """
    from scipy.optimize import minimize

    # views repeat pictures; together they count as one
    weight = float(loss.weights[positions].sum())
    present = np.unique(loss.labels[positions])
    # of two classes scikit-learn penalises their difference alone, which is twice as large
    penalty = (2 if len(present) == 2 else 1) / (c * weight)  # noqa: PLR2004
    best = math.inf, table
    made = 0

    def objective(at: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """(value, gradient, mean curvature of each class) in one pass."""
        nonlocal best, made
        if made == most_passes:
            raise _EnoughError
        made += 1
        sums = loss.sums(at, positions)
        on_pass()
        slopes = sums.by_table / (weight * loss.views)
        slopes[:, :-1] += penalty * at[:, :-1]
        value = sums.loss / (weight * loss.views) + penalty / 2 * float((at[:, :-1] ** 2).sum())
        if value < best[0]:
            best = value, at
        return value, slopes, sums.curvature / (weight * loss.views)

    value, slopes, curvature = objective(table)
    curvature = np.maximum(curvature, _LEAST_CURVATURE * curvature.mean())
    scale = np.empty_like(table)
    scale[:, :-1] = curvature[:, None] * loss.spread + penalty
    scale[:, -1] = curvature
    # without any curvature a single class is left, which is fitted as it is
    scale = 1 / np.sqrt(np.maximum(scale, np.finfo(np.float64).tiny))
    length = float(np.linalg.norm(slopes * scale))
    if length == 0:
        return table
    # its first step has a length of 1, and shall be Newton's
    scale *= length
    first = [(value, slopes)]

    def scaled(variables: np.ndarray) -> tuple[float, np.ndarray]:
        if first:
            value, slopes = first.pop()
        else:
            value, slopes, _ = objective(table + variables.reshape(table.shape) * scale)
        by_variables = (slopes * scale).ravel()
        if (np.linalg.norm(by_variables) / length) ** 2 / 2 <= tolerance * value:
            raise _EnoughError
        return value, by_variables

    options = {"maxcor": _STEPS_KEPT, "gtol": 0.0, "ftol": 0.0}
    with contextlib.suppress(_EnoughError):
        minimize(scaled, np.zeros(table.size), jac=True, method="L-BFGS-B", options=options)
    return best[1]
