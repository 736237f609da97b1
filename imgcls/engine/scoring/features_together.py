"""The features of pictures, computed by all processes of a command, a part of the batches each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from imgcls.engine.device.batches import ComputeSettings, Normalizer
from imgcls.engine.device.kept import kept
from imgcls.engine.device.world import world
from imgcls.engine.scoring.features import ClassifierOfModel, extract_features
from imgcls.engine.scoring.together import Batches, Divisible
from imgcls.errors import ImgclsError

# of each process between two exchanges of features: few enough to be lost in a kill
_BATCHES = 32


class DivisibleBatches(Batches, Divisible, Protocol):
    """Batches that other processes can load a part of."""


_Features = tuple[tuple[str, ...], np.ndarray]


def features_together(
    alone: ClassifierOfModel,
    batches: DivisibleBatches,
    normalizer: Normalizer,
    compute: ComputeSettings,
) -> Iterator[_Features]:
    """(keys, features float32 [n, D]) of each batch in order, from all processes.

    See `extract_features`. What cannot be read is met by the batches' own `bad_images`, wherever.
    """
    here = world()
    if here.size == 1:
        for batch, features in extract_features(alone, batches, normalizer, compute):
            yield batch.keys, features
        return
    blocks = -(-len(batches) // (here.size * _BATCHES))
    with kept(alone) as classifier:
        for block in range(blocks):
            task = _Task(batches.part_of, block, blocks, normalizer, compute)
            with here.everywhere(_extract_beside, classifier, task):
                found = _extracted(alone, task)
            for number, (part, bad) in enumerate(found):
                if number:
                    batches.bad_images.meet(bad)
                yield from part


@dataclass(frozen=True, eq=False)
class _Task:
    """A block of the batches, number `block` of so many, and what it takes to do a part of it."""

    part_of: Callable[[int, int], Batches]
    block: int
    blocks: int
    normalizer: Normalizer
    compute: ComputeSettings


def _extract_beside(alone: ClassifierOfModel, task: _Task) -> None:
    _extracted(alone, task)


def _extracted(
    alone: ClassifierOfModel, task: _Task
) -> list[tuple[list[_Features], Sequence[Any]]]:
    """Do this process's part of a block; (features, bad images) of all, in the main process."""
    here = world()
    error: ImgclsError | None = None
    own: tuple[list[_Features], Sequence[Any]] | None = None
    try:
        batches = task.part_of(task.block * here.size + here.rank, task.blocks * here.size)
        features = extract_features(alone, batches, task.normalizer, task.compute)
        own = ([(batch.keys, each) for batch, each in features], batches.bad_images.met)
    except ImgclsError as failed:
        error = failed
    here.agree(error=error)
    return [part for part in here.gather(own) if part is not None]
