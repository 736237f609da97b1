"""The runs of a folder, a row for each. Loads no torch, NumPy or pandas.

outputs/
  <run>/               a row
  <study>/tune.yaml    a search of `imgcls tune`: a row for each of its trials
    trial-0000/ ...
  <ensemble>/ensemble.yaml  of `--ensemble-models`: a row for each of its runs
    resnet18/ ...
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from imgcls.config.runs import RunsConfig
from imgcls.errors import RunError
from imgcls.jobs.runs.reading import (
    Fold,
    RunSettings,
    contents_of,
    folds_of,
    read_quickly,
    read_settings,
)
from imgcls.jobs.runs.scores import score_of
from imgcls.results.runs import RunList, RunRow, Status
from imgcls.storage.lock import is_in_use

_CONFIG, _SPLITS, _STUDY = "config.yaml", "splits.csv", "tune.yaml"
_ENSEMBLE = "ensemble.yaml"
_TEXTS = {"name", "data", "model", "status"}


def list_runs(config: RunsConfig) -> RunList:
    """The runs of a folder, sorted as asked. Raises RunError when there is no such folder."""
    folder = config.folder
    if not folder.is_dir() and "folder" in config.model_fields_set:
        raise RunError(f"{folder}: no such folder; `imgcls train` makes its runs in outputs/")
    if (folder / _CONFIG).is_file():
        raise RunError(
            f"{folder}: is a run; `imgcls runs show {shlex.quote(str(folder))}` shows it"
        )
    left_out: list[str] = []
    rows = [row_of(folder, *found) for found in candidates(str(folder), left_out)]
    rows.sort(key=lambda row: row.name)
    rows.sort(key=_key(config.sort))
    return RunList(folder, tuple(rows[: config.limit]), tuple(sorted(left_out)))


def candidates(folder: str, left_out: list[str]) -> Iterator[tuple[str, str | None]]:
    """(name below the folder, study) of what may be a run; what is none is added to left_out."""
    for name in _folders(folder):
        place = f"{folder}/{name}"
        if os.path.lexists(f"{place}/{_ENSEMBLE}"):
            runs = [run for run in _folders(place) if os.path.lexists(f"{place}/{run}/{_CONFIG}")]
            yield from ((f"{name}/{run}", name) for run in sorted(runs))
        # a study has the splits of its trials beside them
        elif os.path.lexists(f"{place}/{_STUDY}"):
            for trial in _folders(place):
                yield f"{name}/{trial}", name
        elif any(os.path.lexists(f"{place}/{file}") for file in (_CONFIG, _SPLITS)):
            yield name, None
        else:
            left_out.append(name)


def _folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in entries if not e.name.startswith(".") and e.is_dir()]
    except OSError:
        return []


def row_of(folder: Path, name: str, study: str | None = None) -> RunRow:
    """The row of one run."""
    # joining a Path takes as long as reading a small file
    run = f"{folder}/{name}"
    path = Path(run)
    contents = contents_of(run)
    names, size = contents.names, contents.size_bytes
    note = _note(run, names)
    began = _began(run, note)
    try:
        settings = read_settings(f"{run}/{_CONFIG}")
    except RunError as error:
        reason = str(error) if _CONFIG in names else f"it has no {_CONFIG}"
        return RunRow(name, path, "damaged", began, size_bytes=size, study=study, reason=reason)
    folds = folds_of(run, names)
    status, why = _status(run, names, settings, folds, note)
    score, report = score_of(run, names, settings, folds)
    return RunRow(
        name=name,
        path=path,
        status=status,
        began=began,
        data=settings.source,
        model=settings.model,
        epochs=_epochs(run, names, settings, folds, running=status == "running"),
        epochs_planned=None if settings.epochs is None else settings.epochs * len(settings.folds),
        folds=len(settings.folds),
        score=score,
        size_bytes=size,
        study=study,
        report=None if report is None else Path(f"{run}/{report}"),
        reason=why,
    )


def _epochs(
    run: str,
    names: AbstractSet[str],
    settings: RunSettings,
    folds: Mapping[int, Fold],
    *,
    running: bool,
) -> int:
    """The epochs behind all folds: those that are saved, or, while it is training, all."""
    count = 0
    for number in settings.folds:
        saved = folds[number].epochs if number in folds else 0
        history = f"fold_{number}/history.csv"
        if running and history in names:
            with contextlib.suppress(OSError, ValueError):
                last = read_quickly(f"{run}/{history}").rstrip().rpartition("\n")[2]
                saved = max(saved, int(last.partition(",")[0]))
        count += saved
    return count


def _note(run: str, names: AbstractSet[str]) -> Mapping[str, Any]:
    """What run.json says; {} of a run of an earlier version."""
    if "run.json" in names:
        try:
            found = json.loads(read_quickly(f"{run}/run.json"))
        except (OSError, ValueError, RecursionError):
            return {}
        if isinstance(found, dict):
            return found
    return {}


def _began(run: str, note: Mapping[str, Any]) -> str | None:
    """When the run began, in ISO 8601."""
    try:
        return datetime.fromisoformat(note["began"]).isoformat()
    except (KeyError, TypeError, ValueError):
        pass
    # of an earlier version: its splits are written once, its config by every resume
    for name in (_SPLITS, _CONFIG):
        try:
            written_s = os.stat(f"{run}/{name}").st_mtime  # noqa: PTH116  a path may be a text
        except OSError:
            continue
        return datetime.fromtimestamp(written_s, timezone.utc).isoformat()
    return None


def _status(
    run: str,
    names: AbstractSet[str],
    settings: RunSettings,
    folds: Mapping[int, Fold],
    note: Mapping[str, Any],
) -> tuple[Status, str | None]:
    """How the run is, and why it failed."""
    # what a killed process left in its lock holds nothing
    if ".lock" in names and is_in_use(run):
        return "running", None
    at_end = all(number in folds and folds[number].is_finished for number in settings.folds)
    summed_up = len(settings.folds) == 1 or "summary.json" in names
    if at_end and summed_up and _is_tracked_to_the_end(run, names, settings):
        return "finished", None
    failed = note.get("failed")
    return ("failed", str(failed)) if failed else ("stopped", None)


def _is_tracked_to_the_end(run: str, names: AbstractSet[str], settings: RunSettings) -> bool:
    """Whether no tracker lacks anything of the run that `imgcls resume` would log."""
    tracked = [f"fold_{n}" for n in settings.folds if f"fold_{n}/trackers.json" in names]
    if not tracked:
        return True
    from imgcls.storage.tracked import is_tracked_to_the_end

    return all(is_tracked_to_the_end(Path(run) / fold) for fold in tracked)


def _key(column: str) -> Callable[[RunRow], tuple[Any, ...]]:
    """A sort key: rows that have nothing in the column come last."""

    def key(row: RunRow) -> tuple[Any, ...]:
        cell = _cell(row, column)
        if cell is None:
            return (1,)
        return (0, cell.casefold()) if isinstance(cell, str) else (0, *cell)

    return key


def _cell(row: RunRow, column: str) -> str | tuple[Any, ...] | None:
    if column in _TEXTS:
        found: str | None = getattr(row, column)
        return found
    if column == "when":
        return None if row.began is None else (-datetime.fromisoformat(row.began).timestamp(),)
    if column == "epochs":
        return None if row.epochs is None else (-row.epochs,)
    if column == "size":
        return (-row.size_bytes,)
    score = row.score
    if score is None:
        return None
    from imgcls.metrics.registry import get_metric

    sign = -1 if get_metric(score.metric).higher_is_better else 1
    return (score.metric, sign * score.value)
