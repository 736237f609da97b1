"""A checkpoint opened to score pictures, and pictures the way its model wants them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from imgcls.data.inputs import Input
from imgcls.data.loading.bad_images import BadImages
from imgcls.data.loading.loader import EvalLoader, resolve_workers
from imgcls.data.loading.stream import InputLoader
from imgcls.data.pixels.decode import DecodeSettings
from imgcls.data.pixels.transforms import PixelReader, SideBySide, eval_transform
from imgcls.data.table import SampleTable
from imgcls.engine.checkpoint.folder import Checkpoint, load_weights
from imgcls.engine.device.batches import ComputeSettings, Normalizer
from imgcls.engine.device.world import world
from imgcls.engine.scoring.ensembles import VIEWS, Ensemble, PartOfRow, RowInput
from imgcls.engine.scoring.features import scores_with_features
from imgcls.engine.scoring.inference import BatchT, Scores
from imgcls.engine.scoring.scorer import Scorer
from imgcls.errors import ModelError
from imgcls.models.build import classifier_names
from imgcls.models.card import Preprocessing, model_from_card, preprocessing_from_card


def open_scorer(
    checkpoint: Checkpoint, compute: ComputeSettings, temperature: float = 1.0
) -> Scorer:
    """The model of a verified checkpoint, on the device and ready to score.

    Raises CheckpointError when its card or its weights are not usable.
    """
    model = model_from_card(checkpoint.card)
    load_weights(model, checkpoint)
    preprocessing = preprocessing_from_card(checkpoint.card)
    normalizer = Normalizer(preprocessing.mean, preprocessing.std, compute)
    return Scorer(compute.place(model), normalizer, checkpoint.class_names, compute, temperature)


def averaged(scorers: Sequence[Scorer], tta: str, checkpoints: Sequence[Checkpoint]) -> Scorer:
    """One scorer for all, over the views of `--tta`, a name in VIEWS.

    checkpoints: those of the scorers; its batches are those that `open_batches` and `open_inputs`
    make for them all. Each of its answers has the average's first and then each scorer's own; see
    Ensemble.
    """
    temperatures = [scorer.temperature for scorer in scorers]
    models, views = [scorer.model for scorer in scorers], VIEWS[tta]
    sizes = [one.input_size for one in _inputs_of(checkpoints)]
    if len(sizes) == 1:
        return replace(scorers[0], model=Ensemble(models, views, temperatures), temperature=1.0)
    starts = np.cumsum([0, *(math.prod(size) for size in sizes)]).tolist()
    places = [_inputs_of(checkpoints).index(_input_of(one)) for one in checkpoints]
    inputs = [
        PartOfRow(starts[place], sizes[place], scorer.normalizer)
        for place, scorer in zip(places, scorers, strict=True)
    ]
    return replace(
        scorers[0],
        model=Ensemble(models, views, temperatures, inputs),
        normalizer=RowInput(scorers[0].compute),
        temperature=1.0,
    )


def are_prepared_alike(checkpoints: Sequence[Checkpoint]) -> bool:
    """True when the pictures of all these checkpoints' models are prepared in the same way."""
    return len(_inputs_of(checkpoints)) == 1


def _input_of(checkpoint: Checkpoint) -> Preprocessing:
    return preprocessing_from_card(checkpoint.card)


def _inputs_of(checkpoints: Sequence[Checkpoint]) -> list[Preprocessing]:
    """The different ones among what the checkpoints' models want of their pictures."""
    return list(dict.fromkeys(map(_input_of, checkpoints)))


def _reader_for(checkpoints: Sequence[Checkpoint]) -> PixelReader:
    """What makes the pixels of a picture that all these checkpoints' models need."""
    transforms = [eval_transform(one) for one in _inputs_of(checkpoints)]
    return transforms[0] if len(transforms) == 1 else SideBySide(transforms)


def first_answers(answers: np.ndarray) -> np.ndarray:
    """The logits [n, C] of a scorer's answers; of several models or views, the average's."""
    return answers if answers.ndim == 2 else np.ascontiguousarray(answers[:, 0])  # noqa: PLR2004


def with_features(
    scorer: Scorer, batches: Iterable[BatchT], tta: str, what: str
) -> Iterator[tuple[BatchT, Scores, np.ndarray]]:
    """Each batch with its scores and its pictures' pooled features, float32 [n, D].

    scorer: of one checkpoint, over the views of `tta`; the features are of the pictures as they
    are. what: the option that messages name. Raises ModelError for a model without such features.
    """
    model = scorer.model
    if isinstance(model, Ensemble):
        [model] = model.models
    names = classifier_names(model)
    if len(names) > 1:
        raise ModelError(f"{what}: this model has {len(names)} classifiers, so not one")
    classifier = model.get_submodule(names[0])
    return scores_with_features(scorer, batches, classifier, views=len(VIEWS[tta]), what=what)


def open_inputs(
    checkpoints: Sequence[Checkpoint],
    inputs: Iterable[Input],
    decoding: DecodeSettings,
    *,
    batch_size: int,
    workers: int | str,
    device_type: str,
) -> InputLoader:
    """Batches of pictures without labels as the checkpoints' models want them."""
    return InputLoader(
        inputs,
        _reader_for(checkpoints),
        decoding,
        batch_size=batch_size,
        workers=resolve_workers(
            workers, in_memory=False, device_type=device_type, processes=world().local_size
        ),
        device_type=device_type,
    )


def open_batches(
    checkpoints: Sequence[Checkpoint],
    table: SampleTable,
    indices: np.ndarray,
    *,
    batch_size: int,
    workers: int | str,
    device_type: str,
    bad_images: BadImages | None = None,
) -> EvalLoader:
    """Batches of a table's pictures as the checkpoints' models want them.

    indices: int64 [N], the rows to take. workers: "auto" for as many as suit this machine.
    """
    return EvalLoader(
        table,
        indices,
        _reader_for(checkpoints),
        batch_size=batch_size,
        workers=resolve_workers(
            workers,
            in_memory=table.defaults.in_memory,
            device_type=device_type,
            processes=world().local_size,
        ),
        device_type=device_type,
        bad_images=bad_images,
    )
