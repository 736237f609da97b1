"""Which pictures a run has, and which of them each fold trains, validates and tests with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from imgcls.config.run import TrainConfig
from imgcls.data.splits.assign import SplitAssignment, assignment_from_rows
from imgcls.data.table import SampleTable
from imgcls.errors import ConfigError
from imgcls.jobs.plan.bit_depth import of_one_depth
from imgcls.jobs.plan.preflight import preflight, preflight_report, split_readable, with_digests
from imgcls.jobs.plan.tables import naming_the_way, recorded_table, training_table
from imgcls.results.training import PreflightReport
from imgcls.storage.runs import planned_folds

_FOLDS_OF_BEST = 5


@dataclass(frozen=True)
class DataPlan:
    """The pictures of a run and their split.

    folds: those that the run trains. preflight: what the check before training found, None where
    nothing was checked. reason: how the bit depth of the pictures was found.
    """

    table: SampleTable
    assignment: SplitAssignment
    folds: tuple[int, ...]
    preflight: PreflightReport | None = None
    reason: str | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in the order of the model's outputs."""
        return self.table.class_names

    def resolved(self) -> dict[str, dict[str, Any]]:
        """The config's own fields that the data decide."""
        return {
            # they may bring folds of their own
            "data": {"folds": self.assignment.num_folds},
            "reading": {"bit_depth": self.table.images.decoding.bit_depth or "auto"},
        }

    def rows(self, split: str, fold: int) -> np.ndarray:
        """The table's rows in a fold's "train", "val" or "test": int64, rising."""
        return self.assignment.indices(split, fold)

    def class_counts(self, split: str, fold: int) -> np.ndarray:
        """Pictures of each class in a split of a fold: int64 [C]."""
        return self.table.class_counts(self.rows(split, fold))


def new_data(config: TrainConfig, on_picture: Callable[[int, int], None]) -> DataPlan:
    """The pictures of a new run: opened, measured, checked, and split anew.

    on_picture is told (pictures checked, pictures in all). Raises DataError and ConfigError.
    """
    opened = training_table(config)
    config = _of_preset(config, opened)
    table, reason = of_one_depth(config, opened, on_picture)
    checked = preflight(config, table, on_picture)
    table = with_digests(table, checked)
    assignment = split_readable(config, table, checked)
    report = None if checked is None else preflight_report(checked, table, assignment)
    return DataPlan(table, assignment, _folds(config, assignment), report, reason)


def _of_preset(config: TrainConfig, table: SampleTable) -> TrainConfig:
    """The config with the folds of `--preset best`, where neither it nor the data have some."""
    if config.recipe.preset != "best" or config.data.folds or table.folds is not None:
        return config
    data = config.data.model_copy(update={"folds": _FOLDS_OF_BEST})
    return config.model_copy(update={"data": data})


def recorded_data(
    config: TrainConfig,
    split_rows: Sequence[Mapping[str, str]],
    *,
    strict: bool,
    since_s: float | None,
    class_names: Sequence[str] | None,
) -> DataPlan:
    """The pictures that a run's splits.csv names, in the split that it has.

    As `make_plan`. Raises DataError and ConfigError.
    """
    with naming_the_way():
        opened = training_table(config, begun=True)
    if class_names is not None:
        opened = opened.relabel(class_names)
    table = recorded_table(
        opened,
        split_rows,
        since_s=since_s,
        strict=strict,
        skip=config.data.on_bad_image == "skip",
        workers=config.runtime.workers,
    )
    assignment = assignment_from_rows(table, split_rows, strict=strict)
    if config.recipe.preset == "best" and not assignment.num_folds:
        raise ConfigError(
            "recipe.preset (--preset): best averages folds, and the rows of the split have none"
        )
    found_out = (note for note in table.notes if note not in opened.notes)
    assignment = replace(assignment, notes=(*assignment.notes, *found_out))
    return DataPlan(table, assignment, _folds(config, assignment))


def _folds(config: TrainConfig, assignment: SplitAssignment) -> tuple[int, ...]:
    # the data may bring folds of its own
    data = config.data.model_copy(update={"folds": assignment.num_folds})
    return planned_folds(config.model_copy(update={"data": data}))
