"""Batches of features that were computed once, in the order that pictures would come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from imgcls.data.dataset import Batch
from imgcls.data.sampling import EpochSampler
from imgcls.data.source import SampleTable


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """The features of some rows of a table, in R views: float32 [R, M, D].

    rows: the M rows of the table, rising, int64. View 0 is the evaluation view.
    """

    rows: np.ndarray
    values: np.ndarray

    def of(self, rows: np.ndarray, view: int = 0) -> np.ndarray:
        """The features of these rows of the table: float32 [len(rows), D]."""
        return np.asarray(self.values[view, np.searchsorted(self.rows, rows)])


class FeatureTrainLoader:
    """Training batches from features; epoch e takes view e modulo R.

    features: called when the first batch is wanted, so that nothing is computed before.
    """

    def __init__(
        self,
        features: Callable[[], FeatureSet],
        table: SampleTable,
        indices: np.ndarray,
        *,
        batch_size: int,
        grad_accum: int,
        seed: int,
        balanced: bool,
    ) -> None:
        self._features = features
        self._table = table
        self._indices = indices
        self._sampler = EpochSampler(
            len(indices),
            batch_size=batch_size,
            grad_accum=grad_accum,
            seed=seed,
            even_batches=False,
            balance_by=table.labels[indices] if balanced else None,
        )

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one epoch."""
        return self._sampler.steps_per_epoch

    def steps(self, epoch: int, start_step: int = 0) -> Iterator[list[Batch]]:
        """The epoch's updates from `start_step` on."""
        features = self._features()
        view = epoch % len(features.values)
        for step in self._sampler.micro_batches(epoch, start_step):
            yield [
                _batch(
                    self._table, self._indices[np.array(part) % len(self._indices)], features, view
                )
                for part in step
            ]


class FeatureEvalLoader:
    """Batches of features in the table's order, in the evaluation view."""

    def __init__(
        self,
        features: Callable[[], FeatureSet],
        table: SampleTable,
        indices: np.ndarray,
        *,
        batch_size: int,
    ) -> None:
        self._features = features
        self._table = table
        self._parts = [
            indices[start : start + batch_size] for start in range(0, len(indices), batch_size)
        ]

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[Batch]:
        features = self._features()
        for rows in self._parts:
            yield _batch(self._table, rows, features, 0)


def _batch(table: SampleTable, rows: np.ndarray, features: FeatureSet, view: int) -> Batch:
    return Batch(
        images=torch.from_numpy(features.of(rows, view)),
        labels=torch.from_numpy(table.labels[rows]),
        keys=tuple(table.keys[row] for row in rows),
        valid=torch.ones(len(rows), dtype=torch.bool),
    )
