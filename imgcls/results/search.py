"""What `imgcls tune` tried and found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgcls.results.record import Record


@dataclass(frozen=True)
class TrialRecord(Record):
    """One trial of a search. `value` is the best epoch's, by the search's metric.

    state: complete, pruned, failed (then `error` says why), running or waiting. `run` is the name
    of its run in the study's folder. With k-fold, `value` is the mean over the folds.
    """

    number: int
    state: str
    value: float | None
    params: dict[str, Any]
    epochs: int
    elapsed_s: float
    run: str | None
    is_start: bool = False
    error: str | None = None


@dataclass(frozen=True)
class TuneResult(Record):
    """A search: its trials by number, the best one, and what mattered.

    start: the trial of the settings that the search began from, where it came to its end.
    importances: each parameter's share of the differences, summing to 1; empty with too few trials.
    best_config: a config file that trains the best trial again. command: goes on with the search.
    """

    study: Path
    metric: str
    trials: tuple[TrialRecord, ...]
    best: TrialRecord
    start: TrialRecord | None
    importances: dict[str, float]
    best_config: Path
    command: str
