"""A prediction that all processes of a command make, each of a part of the inputs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from imgcls.data.inputs import Input
from imgcls.data.loading.sampling import Share
from imgcls.engine.device.kept import kept
from imgcls.engine.device.world import World, world
from imgcls.engine.scoring.scorer import Scorer
from imgcls.errors import ImgclsError
from imgcls.jobs.predict.predictor import Predictor, ScoredBatch, unread
from imgcls.jobs.scorer import open_inputs

# of each process between two exchanges of rows; a stop waits for as many
_BATCHES = 16


def scored_together(
    predictor: Predictor, scorer: Scorer, inputs: Iterator[Input]
) -> Iterator[ScoredBatch]:
    """The rows of the inputs in their order, in batches as one process makes them.

    Raises as `Predictor.scored`, ReadError and WorkerError.
    """
    here = world()
    size = predictor.config.batch_size * _BATCHES * here.size
    with kept((predictor, scorer)) as pair:
        while block := list(itertools.islice(inputs, size)):
            with here.everywhere(_score_beside, pair, block):
                found = _scored(here, predictor, scorer, block)
            yield from itertools.chain.from_iterable(found)


def _score_beside(kept: tuple[Predictor, Scorer], block: Sequence[Input]) -> None:
    _scored(world(), *kept, block)


def _scored(
    here: World, predictor: Predictor, scorer: Scorer, block: Sequence[Input]
) -> list[list[ScoredBatch]]:
    """Score this process's part of a block; all parts in order, in the main process."""
    size = predictor.config.batch_size
    first, behind = Share(here.rank, here.size).bounds(-(-len(block) // size))
    error, own = None, None
    try:
        loader = open_inputs(
            predictor.checkpoints,
            block[first * size : behind * size],
            predictor.decoding,
            batch_size=size,
            workers=predictor.config.workers,
            device_type=predictor.compute.device.type,
        )
        own = [*predictor.scored(scorer, loader), *unread(loader.rest)]
    except ImgclsError as failed:
        error = failed
    here.agree(error=error)
    return [part for part in here.gather(own) if part is not None]
