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
from imgcls.data.loading.cache import CachedImages, PixelSlots, Squeezed
from imgcls.data.pixels.transforms import Transform
from imgcls.data.table import SampleTable
from imgcls.engine.device.memory import available_memory_mib
from imgcls.errors import ConfigError
from imgcls.models.card import Preprocessing
from imgcls.models.catalog.read import cache_folder

_FORMAT = 2
_ENTRY_BYTES = 32
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
        # nothing else of the preprocessing is in a whole picture
        made_by = {"interpolation": facts.interpolation}
        slots = self._slots_for("train", table, self.train_rows, (side, side), made_by)
        keep = Squeezed(side, resample)
        images = CachedImages(table.images, self.train_rows, slots, keep, final=False)
        return replace(table, images=images)

    def for_evaluation(
        self, table: SampleTable, facts: Preprocessing, transform: Transform
    ) -> SampleTable:
        """The table with the very crops kept that the model is evaluated on."""
        if self.mode == "none":
            return table
        _, height, width = facts.input_size
        slots = self._slots_for("val", table, self.val_rows, (height, width), facts.to_json())
        images = CachedImages(table.images, self.val_rows, slots, transform.choose, final=True)
        return replace(table, images=images)

    def _slots_for(
        self,
        kind: str,
        table: SampleTable,
        rows: np.ndarray,
        sides: tuple[int, int],
        preprocessing: dict[str, Any],
    ) -> PixelSlots:
        if kind not in self._slots:
            folder = None
            if self.mode == "disk":
                pictures = _name_of_pictures(kind, table, rows, sides)
                folder = _folder() / f"{pictures}-{_digest(preprocessing)}"
            self._slots[kind] = PixelSlots(len(rows), _shape(table, sides), folder)
        return self._slots[kind]


def _shape(table: SampleTable, sides: tuple[int, int]) -> tuple[int, ...]:
    channels = table.images.decoding.channels
    return sides if channels == 1 else (*sides, channels)


def _name_of_pictures(
    kind: str, table: SampleTable, rows: np.ndarray, sides: tuple[int, int]
) -> str:
    """What a cache's folder begins with; behind it comes how the pictures are preprocessed."""
    return _digest(
        {
            "format": _FORMAT,
            "made by": {name: version(name) for name in _DECODERS},
            "kind": kind,
            "shape": _shape(table, sides),
            "decoding": asdict(table.images.decoding),
            "keys": [table.keys[row] for row in rows],
        }
    )


def _digest(settings: dict[str, Any]) -> str:
    text = json.dumps(settings, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()[:24]


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
    # what an earlier sitting of this run, or another run on the same pictures, has made of it
    made_bytes = sum(
        min(_used_bytes(f"{_name_of_pictures(kind, table, rows, (pixels, pixels))}-*"), full_bytes)
        for kind, rows, pixels in (("train", train, side), ("val", val, img_size))
        for full_bytes in [channels * len(rows) * pixels**2 + _ENTRY_BYTES * len(rows)]
    )
    too_large: list[str] = []
    for mode in ("ram", "disk") if wanted == "auto" else (wanted,):
        limit_bytes = _limit_bytes(mode, config.data.cache_limit, made_bytes)
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


def _limit_bytes(mode: str, limit_gib: float | str, made_bytes: int) -> float:
    """What may be used in all; what is kept on disk of other pictures counts, `made_bytes` not."""
    if mode == "ram":
        free = available_memory_mib() * 2**20
        if _SHARED_MEMORY.is_dir():
            free = min(free, shutil.disk_usage(_SHARED_MEMORY).free)
        return min(free, free / 2 if limit_gib == "auto" else float(limit_gib) * _GIB)
    folder = next(p for p in (_folder(), *_folder().parents) if p.is_dir())
    free = shutil.disk_usage(folder).free + made_bytes
    others = _used_bytes("*") - made_bytes
    return min(free, free / 2 if limit_gib == "auto" else float(limit_gib) * _GIB - others)


def _used_bytes(folders: str) -> int:
    return sum(file.stat().st_size for file in _folder().glob(f"{folders}/*.bin"))


def _folder() -> Path:
    return cache_folder() / "pictures"
