"""Batches of features that were computed once, in the order that pictures would come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from imgcls.data.loading.bad_images import BadImage, nothing_left
from imgcls.data.loading.dataset import Batch
from imgcls.data.loading.sampling import EpochSampler
from imgcls.data.table import SampleTable


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """The features of some rows of a table, in R views: float32 [R, M, D].

    rows: the M rows of the table, rising, int64. View 0 is the evaluation view. bad: the pictures
    among them that could not be read, by row, whose values mean nothing.
    """

    rows: np.ndarray
    values: np.ndarray
    bad: Mapping[int, BadImage] = field(default_factory=dict)

    def readable(self, rows: np.ndarray) -> np.ndarray:
        """Those of these rows that have features, in their order."""
        return rows[[row not in self.bad for row in rows.tolist()]] if self.bad else rows

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
        """The epoch's updates from `start_step` on. Raises BadImageError for one without pictures.

        Pictures without features make their batch smaller, as those that cannot be read do.
        """
        features = self._features()
        view = epoch % len(features.values)
        for step in self._sampler.micro_batches(epoch, start_step):
            wanted = [self._indices[np.array(part) % len(self._indices)] for part in step]
            parts = [rows for part in wanted if len(rows := features.readable(part))]
            if not parts:
                bad = [features.bad[int(row)] for part in wanted for row in part]
                raise nothing_left(bad, "its batch")
            yield [_batch(self._table, rows, features, view) for rows in parts]


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
        parts = [rows for part in self._parts if len(rows := features.readable(part))]
        if not parts:
            raise nothing_left([features.bad[int(row)] for row in self._parts[0]], "the split")
        for rows in parts:
            yield _batch(self._table, rows, features, 0)


def _batch(table: SampleTable, rows: np.ndarray, features: FeatureSet, view: int) -> Batch:
    return Batch(
        images=torch.from_numpy(features.of(rows, view)),
        labels=torch.from_numpy(table.labels[rows]),
        keys=tuple(table.keys[row] for row in rows),
        valid=torch.ones(len(rows), dtype=torch.bool),
    )
