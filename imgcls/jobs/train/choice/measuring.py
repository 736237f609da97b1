"""What a model costs, and how well a classifier on its frozen features does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from imgcls.config.run import TrainConfig
from imgcls.data.loading.bad_images import BadImages
from imgcls.data.loading.loader import EvalLoader, resolve_workers
from imgcls.data.pixels.transforms import eval_transform
from imgcls.data.table import SampleTable
from imgcls.engine.device.batches import ComputeSettings, Normalizer
from imgcls.engine.device.macs import count_macs
from imgcls.engine.device.runtime import derive_seed, set_seed, set_tf32
from imgcls.engine.device.timing import seconds
from imgcls.engine.scoring.backends import by_torch
from imgcls.engine.scoring.features import extract_features
from imgcls.jobs.train.choice.candidates import Start
from imgcls.jobs.train.head.logistic import cross_validate_logistic, log_losses
from imgcls.metrics.comparison import class_mean_with_error, mean_with_error
from imgcls.metrics.resampling import unit_numbers
from imgcls.models.build import create_model
from imgcls.models.card import preprocessing_of
from imgcls.models.counting import count_parameters
from imgcls.models.head import classifier_alone
from imgcls.results.comparison import Estimate
from imgcls.results.models import Candidate

_WARMUP_PICTURES, _TIMED_PICTURES = 3, 10
_BATCH_SIZE = 32
# of each class, where it has them and there is room
_LEAST = 20


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures that models are compared on: rows of the table, int64 [N].

    units: int64 [N], the same number for pictures of one group.
    """

    table: SampleTable
    rows: np.ndarray
    units: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """int64 [N]."""
        return np.asarray(self.table.labels[self.rows])


@dataclass(frozen=True, eq=False)
class Held:
    """What cross-validation says of N pictures; nan for those that could not be held out.

    losses: float64 [N], of the probabilities as they are. correct: float64 [N], 1 where the class
    is the likeliest of classes that are alike common. folds: 0 where nothing could be held out.
    """

    losses: np.ndarray
    correct: np.ndarray
    folds: int

    def log_loss(self, pictures: Pictures) -> Estimate:
        """Over the pictures that could be held out."""
        has = ~np.isnan(self.losses)
        return mean_with_error(self.losses[has], pictures.units[has])

    def balanced_accuracy(self, pictures: Pictures) -> Estimate:
        """Over the pictures that could be held out."""
        has = ~np.isnan(self.correct)
        return class_mean_with_error(self.correct[has], pictures.labels[has], pictures.units[has])

    def behind(self, other: Held, pictures: Pictures) -> Estimate:
        """By how much the log loss exceeds the other's, paired over the pictures that both have."""
        differences = self.losses - other.losses
        has = ~np.isnan(differences)
        return mean_with_error(differences[has], pictures.units[has])


def pictures_of(table: SampleTable, rows: np.ndarray, most: int, seed: int) -> Pictures:
    """At most so many of the rows, drawn by class and spread over its groups; all where they fit.

    Each class keeps its share, but twenty pictures where it has them and there is room.
    """
    groups = table.groups
    units = (
        np.arange(len(rows))
        if groups is None
        else unit_numbers([groups[row] for row in rows.tolist()])
    )
    kept = _sample(table.labels[rows], units, most, seed)
    return Pictures(table, rows[kept], np.unique(units[kept], return_inverse=True)[1])


def _sample(labels: np.ndarray, units: np.ndarray, most: int, seed: int) -> np.ndarray:
    """The positions of at most `most` labels, rising: int64 [n]."""
    if len(labels) <= most:
        return np.arange(len(labels))
    counts = np.bincount(labels)
    least = np.minimum(counts, min(_LEAST, max(most // np.count_nonzero(counts), 1)))
    shares = _shares(counts, least, most)
    order = np.random.default_rng(seed).permutation(len(labels))
    # one picture of each group first, then the second of each
    turn = np.empty(len(labels), dtype=np.int64)
    turn[order] = _number_within(units[order])
    kept: list[np.ndarray] = []
    for label, share in enumerate(shares.tolist()):
        own = order[labels[order] == label]
        kept.append(own[np.argsort(turn[own], kind="stable")][:share])
    return np.sort(np.concatenate(kept))


def _shares(counts: np.ndarray, least: np.ndarray, most: int) -> np.ndarray:
    """How many of each class, no fewer than `least` and about `most` in all: int64 [C]."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        fits = np.maximum(least, np.floor(middle * counts)).sum() <= most
        low, high = (middle, high) if fits else (low, middle)
    return np.asarray(np.maximum(least, np.floor(low * counts)), dtype=np.int64)


def _number_within(units: np.ndarray) -> np.ndarray:
    """The how manieth of its unit each one is, from 0: int64 [N]."""
    order = np.argsort(units, kind="stable")
    _, starts, sizes = np.unique(units[order], return_index=True, return_counts=True)
    numbers = np.empty(len(units), dtype=np.int64)
    numbers[order] = np.arange(len(units)) - np.repeat(starts, sizes)
    return numbers


def cost_of(start: Start, config: TrainConfig, classes: int, compute: ComputeSettings) -> Candidate:
    """The size and speed of a model, from random weights. Raises ModelError."""
    model = _build(Start(start.name), config, classes)
    size = preprocessing_of(model, config.data.resize_mode).input_size
    macs = count_macs(model, size)
    run = by_torch(compute.place(model.eval()), compute)
    images = torch.randn(1, *size).to(compute.device)
    images = images.contiguous(memory_format=compute.memory_format)
    times_s = [
        seconds(lambda: run(images), compute.device)
        for _ in range(_WARMUP_PICTURES + _TIMED_PICTURES)
    ]
    return Candidate(
        name=start.name,
        weights=start.origin,
        input_size=size,
        parameters=count_parameters(model)[1],
        macs=macs,
        latency_ms=float(np.median(times_s[_WARMUP_PICTURES:]) * 1e3),
    )


def features_of(
    start: Start,
    config: TrainConfig,
    pictures: Pictures,
    compute: ComputeSettings,
    *,
    bad_images: BadImages,
    on_picture: Callable[[int, int], None],
) -> tuple[np.ndarray, np.ndarray]:
    """(positions of those that could be read, their features): int64 [n], float32 [n, D].

    One pass through the model, in the evaluation view. on_picture is told (done, in all). Raises
    ModelError, BadImageError.
    """
    table = pictures.table
    model = _build(start, config, len(table.class_names))
    preprocessing = preprocessing_of(model, config.data.resize_mode)
    device_type = compute.device.type
    loader = EvalLoader(
        table,
        pictures.rows,
        eval_transform(preprocessing),
        batch_size=_BATCH_SIZE,
        workers=resolve_workers(
            config.runtime.workers, in_memory=table.defaults.in_memory, device_type=device_type
        ),
        device_type=device_type,
        bad_images=bad_images,
    )
    alone = classifier_alone(compute.place(model))
    normalizer = Normalizer(preprocessing.mean, preprocessing.std, compute)
    set_tf32(compute.device, allowed=True)
    place = {table.keys[row]: position for position, row in enumerate(pictures.rows.tolist())}
    found, positions = [], []
    for batch, features in extract_features(alone, loader, normalizer, compute):
        found.append(features)
        positions += [place[key] for key in batch.keys]
        on_picture(len(positions), len(pictures.rows))
    return np.array(positions), np.concatenate(found)


def held_out(features: np.ndarray, positions: np.ndarray, pictures: Pictures, seed: int) -> Held:
    """What logistic regression on the features says of pictures that it was not fitted to."""
    labels, classes = pictures.labels[positions], len(pictures.table.class_names)
    found = cross_validate_logistic(
        features, labels, classes, seed=seed, groups=pictures.units[positions]
    )
    told = ~np.isnan(found.logits[:, 0])
    logits, labels = found.logits[told], labels[told]
    # the decision that balanced accuracy asks for (Menon et al. 2021)
    shift = np.log(np.maximum(np.bincount(pictures.labels, minlength=classes), 1))
    losses, correct = np.full((2, len(pictures.rows)), np.nan)
    losses[positions[told]] = log_losses(logits, labels)
    correct[positions[told]] = (logits - shift).argmax(axis=1) == labels
    return Held(losses, correct, found.folds)


def _build(start: Start, config: TrainConfig, classes: int) -> nn.Module:
    # as the training of its first fold would begin
    set_seed(derive_seed(config.runtime.seed, "model", 0))
    model = start.config(config.model)
    return create_model(model.model_copy(update={"num_classes": classes}))
