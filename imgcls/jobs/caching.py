"""Where decoded pictures are kept between epochs, if at all: what `--cache` comes to."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from imgcls.config.run import TrainConfig
from imgcls.data.pixel_cache import CachedImages, PixelSlots, squeezed
from imgcls.data.source import SampleTable
from imgcls.data.transforms import Transform
from imgcls.engine.memory import available_memory_mib
from imgcls.errors import ConfigError
from imgcls.models.card import Preprocessing
from imgcls.models.catalog import cache_folder

_FORMAT = 1
# what pixels may hang on to the last level
_DECODERS = ("pillow", "simplejpeg", "torch")
_GIB = 2**30
# training crops come from pictures as large as evaluation sees them
_WHOLE_PER_CROP = 8 / 7
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  asked for its size only


@dataclass
class PictureCache:
    """The pictures of a run's folds, kept in `ram` or on `disk`, or not at all (`none`).

    train_rows, val_rows: int64, ascending; those of any fold. reason: a line for the plan.
    """

    mode: str
    train_rows: np.ndarray
    val_rows: np.ndarray
    reason: str | None = None
    _slots: dict[str, PixelSlots] = field(default_factory=dict)

    def for_training(self, table: SampleTable, facts: Preprocessing) -> SampleTable:
        """The table with whole pictures kept small, for random crops."""
        if self.mode == "none":
            return table
        side = _whole_side(max(facts.input_size[1:]))
        resample = Image.Resampling[facts.interpolation.upper()]
        slots = self._slots_for("train", table, self.train_rows, (side, side), facts)
        keep = squeezed(side, resample)
        images = CachedImages(table.images, self.train_rows, slots, keep, final=False)
        return replace(table, images=images)

    def for_evaluation(
        self, table: SampleTable, facts: Preprocessing, transform: Transform
    ) -> SampleTable:
        """The table with the very crops kept that the model is evaluated on."""
        if self.mode == "none":
            return table
        _, height, width = facts.input_size
        slots = self._slots_for("val", table, self.val_rows, (height, width), facts)
        images = CachedImages(table.images, self.val_rows, slots, transform.choose, final=True)
        return replace(table, images=images)

    def _slots_for(
        self,
        kind: str,
        table: SampleTable,
        rows: np.ndarray,
        sides: tuple[int, int],
        facts: Preprocessing,
    ) -> PixelSlots:
        if kind not in self._slots:
            channels = table.images.decoding.channels
            shape = sides if channels == 1 else (*sides, channels)
            folder = None
            if self.mode == "disk":
                settings: dict[str, Any] = {
                    "format": _FORMAT,
                    "made by": {name: version(name) for name in _DECODERS},
                    "kind": kind,
                    "shape": shape,
                    "decoding": asdict(table.images.decoding),
                    "preprocessing": facts.to_json(),
                    "keys": [table.keys[row] for row in rows],
                }
                text = json.dumps(settings, sort_keys=True).encode()
                folder = _folder() / hashlib.sha256(text).hexdigest()[:32]
            self._slots[kind] = PixelSlots(len(rows), shape, folder)
        return self._slots[kind]


def plan_cache(
    config: TrainConfig,
    table: SampleTable,
    train_rows: Sequence[np.ndarray],
    val_rows: Sequence[np.ndarray],
    img_size: int,
) -> PictureCache:
    """The cache that `--cache` asks for, sized before it is made.

    train_rows, val_rows: the rows of each fold. Raises ConfigError when it is larger than allowed.
    """
    wanted = config.data.cache
    train, val = (np.unique(np.concatenate(parts)) for parts in (train_rows, val_rows))
    if wanted == "none":
        return PictureCache("none", train, val)
    channels = table.images.decoding.channels
    side = _whole_side(img_size)
    size_bytes = channels * (len(train) * side**2 + len(val) * img_size**2)
    pictures = len(np.union1d(train, val))
    size = f"{_in_words(size_bytes)} for {pictures:,} pictures"
    too_large: list[str] = []
    for mode in ("ram", "disk") if wanted == "auto" else (wanted,):
        limit_bytes = _limit_bytes(mode, config.data.cache_limit)
        if size_bytes <= limit_bytes:
            where = f" in {_folder()}" if mode == "disk" else ""
            allowed = f"of {_in_words(limit_bytes)} allowed"
            return PictureCache(mode, train, val, f"cache on {mode}: {size}, {allowed}{where}")
        too_large.append(f"{_in_words(limit_bytes)} on {mode}")
    if wanted == "auto":
        return PictureCache(
            "none", train, val, f"no cache: {size}, allowed are {', '.join(too_large)}"
        )
    raise ConfigError(
        f"data.cache (--cache) {wanted}: {size}, allowed are {too_large[0]}; raise --cache-limit, "
        f"make room{f' in {_folder()}' if wanted == 'disk' else ''}, or take another --cache"
    )


def _in_words(size_bytes: float) -> str:
    if size_bytes < _GIB:
        return f"{size_bytes / 2**20:.1f} MiB"
    return f"{size_bytes / _GIB:.1f} GiB"


def _whole_side(crop_side: int) -> int:
    return round(crop_side * _WHOLE_PER_CROP)


def _limit_bytes(mode: str, limit_gib: float | str) -> float:
    """What may be used in all; what other runs keep on disk counts."""
    if mode == "ram":
        free = available_memory_mib() * 2**20
        if _SHARED_MEMORY.is_dir():
            free = min(free, shutil.disk_usage(_SHARED_MEMORY).free)
        return min(free, free / 2 if limit_gib == "auto" else float(limit_gib) * _GIB)
    folder = next(p for p in (_folder(), *_folder().parents) if p.is_dir())
    free = shutil.disk_usage(folder).free
    used = sum(file.stat().st_size for file in _folder().glob("*/*.bin"))
    return min(free, free / 2 if limit_gib == "auto" else float(limit_gib) * _GIB - used)


def _folder() -> Path:
    return cache_folder() / "pictures"
