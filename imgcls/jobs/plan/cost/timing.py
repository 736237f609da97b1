"""How long a picture takes: to load, to train on and to score."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from imgcls.data.pixels.decode import UnreadableImageError
from imgcls.data.pixels.transforms import Transform, eval_transform, train_transform
from imgcls.data.table import SampleTable
from imgcls.engine.device.timing import seconds
from imgcls.jobs.plan.data import DataPlan
from imgcls.jobs.plan.learner import Built
from imgcls.jobs.plan.recipe import Recipe

# pictures that are loaded to be timed
_LOADED = 12
_REPEATS = 2
_CPU = torch.device("cpu")


@dataclass(frozen=True)
class PictureTimes:
    """Seconds for a picture.

    trained_s: of the device, in an update; scored_s: in a pass without one. loaded_s and viewed_s:
    of one core, to load it changed at random for training, and as evaluation sees it.
    features: of the classifier's input.
    """

    trained_s: float
    scored_s: float
    loaded_s: float
    viewed_s: float
    features: int


def time_pictures(
    built: Built,
    data: DataPlan,
    recipe: Recipe,
    *,
    trained_s: float,
    score: Callable[[], object],
    pictures: int,
) -> PictureTimes:
    """The times of a learner whose updates take trained_s for a picture.

    score: makes a pass of so many pictures through the model.
    """
    whole: Any = built.whole
    device = next(built.whole.parameters()).device
    rows = data.rows("train", data.folds[0])
    some = rows[np.linspace(0, len(rows) - 1, min(_LOADED, len(rows)), dtype=int)]
    changed = train_transform(built.preprocessing, recipe.augment)
    return PictureTimes(
        trained_s,
        scored_s=min(seconds(score, device) for _ in range(_REPEATS)) / pictures,
        loaded_s=_load_s(data.table, some, changed),
        viewed_s=_load_s(data.table, some, eval_transform(built.preprocessing)),
        features=whole.num_features,
    )


def _load_s(table: SampleTable, rows: np.ndarray, transform: Transform) -> float:
    def load() -> None:
        for row in rows:
            with contextlib.suppress(UnreadableImageError):  # whoever trains with it says so
                transform.read(partial(table.images.open_crop, int(row)))

    return min(seconds(load, _CPU) for _ in range(_REPEATS)) / len(rows)
