"""What the folds of a run share: decoded pictures and features, made once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from imgcls.data.loading.cache import CachedImages, PixelSlots, Squeezed
from imgcls.data.pixels.transforms import Transform
from imgcls.data.table import SampleTable
from imgcls.jobs.plan.loading import CachePlan, cache_folder_of, slot_shape, whole_side
from imgcls.jobs.plan.plan import Plan
from imgcls.jobs.train.head.features import FeatureStore
from imgcls.models.card import Preprocessing


class PictureCache:
    """The pictures of a run's folds, decoded when they are first asked for.

    They stay where the plan says: in memory that loader processes share, or on disk, where a later
    run finds them.
    """

    def __init__(self, plan: CachePlan) -> None:
        self._plan = plan
        self._slots: dict[str, PixelSlots] = {}

    def for_training(self, table: SampleTable, preprocessing: Preprocessing) -> SampleTable:
        """The table with whole pictures kept small, for random crops."""
        if self._plan.mode == "none":
            return table
        rows, side = self._plan.train_rows, whole_side(max(preprocessing.input_size[1:]))
        resample = Image.Resampling[preprocessing.interpolation.upper()]
        # nothing else of the preprocessing is in a whole picture
        made_by = {"interpolation": preprocessing.interpolation}
        slots = self._slots_for("train", table, rows, (side, side), made_by)
        images = CachedImages(table.images, rows, slots, Squeezed(side, resample), final=False)
        return replace(table, images=images)

    def for_evaluation(
        self, table: SampleTable, preprocessing: Preprocessing, transform: Transform
    ) -> SampleTable:
        """The table with the very crops kept that the model is evaluated on."""
        if self._plan.mode == "none":
            return table
        rows, (_, height, width) = self._plan.val_rows, preprocessing.input_size
        slots = self._slots_for("val", table, rows, (height, width), preprocessing.to_json())
        images = CachedImages(table.images, rows, slots, transform.choose, final=True)
        return replace(table, images=images)

    def _slots_for(
        self,
        kind: str,
        table: SampleTable,
        rows: np.ndarray,
        sides: tuple[int, int],
        preprocessing: Mapping[str, Any],
    ) -> PixelSlots:
        if kind not in self._slots:
            folder = None
            if self._plan.mode == "disk":
                folder = cache_folder_of(kind, table, rows, sides, preprocessing)
            self._slots[kind] = PixelSlots(len(rows), slot_shape(table, sides), folder)
        return self._slots[kind]


@dataclass(frozen=True)
class RunCaches:
    """What is computed of a run's pictures once, for all of its folds and epochs."""

    pictures: PictureCache
    features: FeatureStore

    @classmethod
    def of(cls, plan: Plan) -> RunCaches:
        """Empty ones for the run of this plan."""
        return cls(PictureCache(plan.loading.cache), FeatureStore(plan))
