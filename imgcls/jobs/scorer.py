"""A checkpoint opened to score pictures, and pictures the way its model wants them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from imgcls.data.inputs import Input
from imgcls.data.loading.bad_images import BadImages
from imgcls.data.loading.loader import EvalLoader, resolve_workers
from imgcls.data.loading.stream import InputLoader
from imgcls.data.pixels.decode import DecodeSettings
from imgcls.data.pixels.transforms import eval_transform
from imgcls.data.table import SampleTable
from imgcls.engine.checkpoint.folder import Checkpoint, load_weights
from imgcls.engine.device.batches import ComputeSettings, Normalizer
from imgcls.engine.scoring.ensembles import VIEWS, Ensemble
from imgcls.engine.scoring.scorer import Scorer
from imgcls.models.card import model_from_card, preprocessing_from_card


def open_scorer(
    checkpoint: Checkpoint, compute: ComputeSettings, temperature: float = 1.0
) -> Scorer:
    """The model of a verified checkpoint, on the device and ready to score.

    Raises CheckpointError when its card or its weights are not usable.
    """
    model = model_from_card(checkpoint.card)
    load_weights(model, checkpoint)
    facts = preprocessing_from_card(checkpoint.card)
    normalizer = Normalizer(facts.mean, facts.std, compute)
    return Scorer(compute.place(model), normalizer, checkpoint.class_names, compute, temperature)


def averaged(scorers: Sequence[Scorer], tta: str) -> Scorer:
    """One scorer for all, over the views of `--tta`, a name in VIEWS.

    Each of its answers has the average's first and then each scorer's own; see Ensemble.
    """
    temperatures = [scorer.temperature for scorer in scorers]
    model = Ensemble([scorer.model for scorer in scorers], VIEWS[tta], temperatures)
    return replace(scorers[0], model=model, temperature=1.0)


def open_inputs(
    checkpoint: Checkpoint,
    inputs: Iterable[Input],
    decoding: DecodeSettings,
    *,
    batch_size: int,
    workers: int | str,
    device_type: str,
) -> InputLoader:
    """Batches of pictures without labels as the checkpoint's model wants them."""
    return InputLoader(
        inputs,
        eval_transform(preprocessing_from_card(checkpoint.card)),
        decoding,
        batch_size=batch_size,
        workers=resolve_workers(workers, in_memory=False, device_type=device_type),
        device_type=device_type,
    )


def open_batches(
    checkpoint: Checkpoint,
    table: SampleTable,
    indices: np.ndarray,
    *,
    batch_size: int,
    workers: int | str,
    device_type: str,
    bad_images: BadImages | None = None,
) -> EvalLoader:
    """Batches of a table's pictures as the checkpoint's model wants them.

    indices: int64 [N], the rows to take. workers: "auto" for as many as suit this machine.
    """
    return EvalLoader(
        table,
        indices,
        eval_transform(preprocessing_from_card(checkpoint.card)),
        batch_size=batch_size,
        workers=resolve_workers(
            workers, in_memory=table.defaults.in_memory, device_type=device_type
        ),
        device_type=device_type,
        bad_images=bad_images,
    )
