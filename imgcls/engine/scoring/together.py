"""A pass over pictures that all processes of a command make, each over a part of the batches.

The batches are those of a single process, so that each picture is scored in the same company and
its logits are the same; none is filled up and none comes twice. Nothing is exchanged before all
have done their part, and then once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from imgcls.engine.device.batches import Batch, ComputeSettings, Normalizer
from imgcls.engine.device.world import world
from imgcls.engine.scoring.inference import InferencePass, joined_passes, predict
from imgcls.errors import ImgclsError
from imgcls.storage.scores import ScoreFile


class BadOnes(Protocol):
    """What is done about pictures that cannot be read, and those met so far."""

    @property
    def met(self) -> Sequence[Any]: ...  # noqa: D102
    def meet(self, images: Sequence[Any]) -> None: ...  # noqa: D102


class Batches(Sized, Iterable[Batch], Protocol):
    """Batches of known number."""

    @property
    def bad_images(self) -> BadOnes: ...  # noqa: D102


@runtime_checkable
class Divisible(Protocol):
    """Batches that other processes can load a part of.

    part_of(number, of): the part of process `number`, from 0, of so many, in order; it can be sent
    to another process.
    """

    @property
    def part_of(self) -> Callable[[int, int], Batches]: ...  # noqa: D102
    @property
    def bad_images(self) -> BadOnes: ...  # noqa: D102


def predict_together(
    model: nn.Module,
    batches: Divisible,
    normalizer: Normalizer,
    compute: ComputeSettings,
    on_batch: Callable[[int], None],
    *,
    file: ScoreFile | None,
    temperature: float,
) -> InferencePass:
    """What `predict` gives, from all processes.

    on_batch is called behind each batch of this process, and for the others' when they are there.
    The logits are held in memory until all are, then in `file` where one is given.
    """
    task = _Task(model, batches.part_of, normalizer, compute, temperature)
    with world().everywhere(_predict_beside, task):
        found = _parts(task, on_batch)
    for part in found[1:]:
        for size in part.batch_sizes:
            on_batch(size)
    if file is None:
        return joined_passes(found)
    for part in found:
        file.append(part.logits)
    return joined_passes(found, logits=file.mapped())


@dataclass(frozen=True, eq=False)
class _Task:
    """What a process needs to do its part."""

    model: nn.Module
    part_of: Callable[[int, int], Batches]
    normalizer: Normalizer
    compute: ComputeSettings
    temperature: float


def _predict_beside(task: _Task) -> None:
    _parts(task, lambda _pictures: None)


def _parts(task: _Task, on_batch: Callable[[int], None]) -> list[InferencePass]:
    """Do this process's part; all of them in order, in the main process, [] in others."""
    here = world()
    error, own = None, None
    try:
        batches = task.part_of(here.rank, here.size)
        if len(batches):
            own = predict(
                task.model,
                batches,
                task.normalizer,
                task.compute,
                on_batch,
                temperature=task.temperature,
            )
    except ImgclsError as failed:
        error = failed
    here.agree(error=error)
    return [part for part in here.gather(own) if part is not None]
