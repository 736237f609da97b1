"""How pictures are loaded: loader processes, and where decoded ones are kept (`--cache`)."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from imgcls.columns.texts import Texts
from imgcls.config.data import DataConfig
from imgcls.config.run import TrainConfig
from imgcls.data.loading.loader import resolve_workers
from imgcls.data.table import SampleTable
from imgcls.engine.device.memory import available_memory_mib
from imgcls.engine.device.world import world
from imgcls.errors import ConfigError
from imgcls.jobs.plan.data import DataPlan
from imgcls.output.numbers import byte_size
from imgcls.storage.caches import PICTURES
from imgcls.storage.kept_files import cache_folder

_FORMAT = 2
_ENTRY_BYTES = 32
# what pixels may hang on to the last level
_DECODERS = ("pillow", "simplejpeg", "torch")
_GIB = 2**30
# training crops come from pictures as large as evaluation sees them
_WHOLE_PER_CROP = 8 / 7
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  asked for its size only


@dataclass(frozen=True, eq=False)
class CachePlan:
    """Which pictures of a run's folds are kept in `ram` or on `disk`, or none of them (`none`).

    train_rows, val_rows: int64, ascending; those of any fold. reason: a line for the plan.
    memory_bytes: what it takes of memory.
    """

    mode: str
    train_rows: np.ndarray
    val_rows: np.ndarray
    reason: str | None = None
    memory_bytes: int = 0


@dataclass(frozen=True)
class Loading:
    """How pictures come from where they lie: by how many processes, and from which cache."""

    workers: int
    cache: CachePlan

    def resolved(self) -> dict[str, dict[str, Any]]:
        """The config's own fields that this decides."""
        return {"data": {"cache": self.cache.mode}}


def plan_loading(
    config: TrainConfig, data: DataPlan, img_size: int, device: torch.device
) -> Loading:
    """How the pictures are loaded. Raises ConfigError for a cache larger than is allowed."""
    cache = plan_cache(
        config.data,
        data.table,
        [data.rows("train", fold) for fold in data.folds],
        [data.rows("val", fold) for fold in data.folds],
        img_size,
    )
    workers = resolve_workers(
        config.runtime.workers,
        in_memory=data.table.defaults.in_memory,
        device_type=device.type,
        processes=world().local_size,
    )
    return Loading(workers, cache)


def plan_cache(
    config: DataConfig,
    table: SampleTable,
    train_rows: Sequence[np.ndarray],
    val_rows: Sequence[np.ndarray],
    img_size: int,
) -> CachePlan:
    """The cache that `--cache` asks for, sized before it is made.

    train_rows, val_rows: the rows of each fold. Raises ConfigError when it is larger than allowed.
    """
    wanted = config.cache
    train, val = (np.unique(np.concatenate(parts)) for parts in (train_rows, val_rows))
    if wanted == "none":
        return CachePlan("none", train, val)
    channels = table.images.decoding.channels
    side = whole_side(img_size)
    size_bytes = channels * (len(train) * side**2 + len(val) * img_size**2)
    pictures = len(np.union1d(train, val))
    size = f"{byte_size(size_bytes)} for {pictures:,} pictures"
    # what an earlier sitting of this run, or another run on the same pictures, has made of it
    made_bytes = sum(
        min(_used_bytes(f"{_name_of_pictures(kind, table, rows, (pixels, pixels))}-*"), full_bytes)
        for kind, rows, pixels in (("train", train, side), ("val", val, img_size))
        for full_bytes in [channels * len(rows) * pixels**2 + _ENTRY_BYTES * len(rows)]
    )
    where = f" in {pictures_folder()}"
    too_large: list[str] = []
    for mode in ("ram", "disk") if wanted == "auto" else (wanted,):
        limit_bytes = _limit_bytes(mode, config.cache_limit, made_bytes)
        if size_bytes <= limit_bytes:
            reason = f"cache on {mode}: {size}, of {byte_size(limit_bytes)} allowed"
            if mode == "ram":
                return CachePlan(mode, train, val, reason, size_bytes)
            return CachePlan(mode, train, val, reason + where)
        too_large.append(f"{byte_size(limit_bytes)} on {mode}")
    if wanted == "auto":
        return CachePlan(
            "none", train, val, f"no cache: {size}, allowed are {', '.join(too_large)}"
        )
    raise ConfigError(
        f"data.cache (--cache) {wanted}: {size}, allowed are {too_large[0]}; raise --cache-limit, "
        f"make room{where if wanted == 'disk' else ''}, or take another --cache"
    )


def whole_side(crop_side: int) -> int:
    """The side of a whole picture that crops of that side are cut from, in pixels."""
    return round(crop_side * _WHOLE_PER_CROP)


def _limit_bytes(mode: str, limit_gib: float | str, made_bytes: int) -> float:
    """What may be used in all; what is kept on disk of other pictures counts, `made_bytes` not."""
    if mode == "ram":
        free = available_memory_mib() * 2**20
        if _SHARED_MEMORY.is_dir():
            free = min(free, shutil.disk_usage(_SHARED_MEMORY).free)
        return min(free, free / 2 if limit_gib == "auto" else float(limit_gib) * _GIB)
    folder = next(p for p in (pictures_folder(), *pictures_folder().parents) if p.is_dir())
    free = shutil.disk_usage(folder).free + made_bytes
    others = _used_bytes("*") - made_bytes
    return min(free, free / 2 if limit_gib == "auto" else float(limit_gib) * _GIB - others)


def _used_bytes(folders: str) -> int:
    return sum(file.stat().st_size for file in pictures_folder().glob(f"{folders}/*.bin"))


def pictures_folder() -> Path:
    """Where pictures are kept on disk, a folder for each set of them."""
    return cache_folder() / PICTURES


def slot_shape(table: SampleTable, sides: tuple[int, int]) -> tuple[int, ...]:
    """The shape of one kept picture, (H, W) or (H, W, C)."""
    channels = table.images.decoding.channels
    return sides if channels == 1 else (*sides, channels)


def cache_folder_of(
    kind: str,
    table: SampleTable,
    rows: np.ndarray,
    sides: tuple[int, int],
    preprocessing: Mapping[str, Any],
) -> Path:
    """The folder for these pictures, preprocessed like this."""
    name = _name_of_pictures(kind, table, rows, sides)
    return pictures_folder() / f"{name}-{_digest(preprocessing)}"


def _name_of_pictures(
    kind: str, table: SampleTable, rows: np.ndarray, sides: tuple[int, int]
) -> str:
    """What a cache's folder begins with; behind it comes how the pictures are preprocessed."""
    settings = {
        "format": _FORMAT,
        "made by": {name: version(name) for name in _DECODERS},
        "kind": kind,
        "shape": slot_shape(table, sides),
        "decoding": asdict(table.images.decoding),
    }
    return _digest(settings, table.keys.select(rows))


def _digest(settings: Mapping[str, Any], keys: Texts | None = None) -> str:
    """A hash of the settings as JSON, with the keys among them, which may be millions."""
    text = json.dumps(settings if keys is None else {**settings, "keys": []}, sort_keys=True)
    before, inside, after = text.partition('"keys": [')
    digest = hashlib.sha256(f"{before}{inside}".encode())
    for number, block in enumerate(() if keys is None else keys.blocks()):
        digest.update(f"{', ' * bool(number)}{', '.join(map(json.dumps, block))}".encode())
    digest.update(after.encode())
    return digest.hexdigest()[:24]
