"""The whole of one run. Loads no torch."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from imgcls.config.files import read_json
from imgcls.config.load import flattened
from imgcls.config.run import TrainConfig
from imgcls.config.runs import RunsShowConfig
from imgcls.errors import RunError
from imgcls.jobs.runs.finding import find_run
from imgcls.jobs.runs.listing import row_of
from imgcls.jobs.runs.reading import contents_of
from imgcls.jobs.runs.scores import are_best_epochs_now, is_best_now
from imgcls.results.run_details import (
    EvaluatedSplit,
    FoldDetails,
    RunDetails,
    SavedCheckpoint,
    Setting,
)
from imgcls.storage.evaluations import METRICS, PAGE
from imgcls.storage.pointers import (
    CHECKPOINTS,
    best_of,
    last_of,
    newest_first,
    sidecar_of,
    sidecar_of_last,
)
from imgcls.storage.runs import (
    CONFIG,
    fold_folder,
    fold_folders,
    planned_folds,
    read_model_choice,
    read_run_config,
    sidecar_of_run,
)
from imgcls.storage.splits import read_splits
from imgcls.storage.tracked import read_tracked

SPLIT_NAMES = ("train", "val", "test")


def show_run(config: RunsShowConfig) -> RunDetails:
    """Everything of one run. Raises RunError where there is none, ConfigError for a damaged one."""
    run = find_run(config.run, config.output)
    trained = read_run_config(run)
    numbers = planned_folds(trained)
    rows, notes = rows_of(run)
    sidecar = sidecar_of_run(run)
    counts = {split: Counter[str]() for split in SPLIT_NAMES}
    for row in rows:
        if (split := split_of(row, numbers[0])) in counts:
            counts[split][row["label"]] += 1
    names = sidecar.class_names if sidecar else tuple(sorted({row["label"] for row in rows}))
    return RunDetails(
        row=row_of(run.parent, run.name),
        settings=tuple(_not_default(trained)),
        fingerprint=None if sidecar is None else sidecar.data_fingerprint,
        class_names=names,
        class_counts={n: {split: counts[split][n] for split in SPLIT_NAMES} for n in names},
        splitter=None if sidecar is None else sidecar.splitter,
        folds=tuple(_fold(run, number, rows) for number in numbers),
        evaluations=tuple(evaluations_of(run)),
        versions=dict((sidecar and sidecar.versions) or {}),
        command=f"imgcls train --config {shlex.quote(str(run / CONFIG))}",
        model_choice=read_model_choice(run),
        notes=tuple(notes),
    )


def rows_of(run: Path) -> tuple[Sequence[Mapping[str, str]], list[str]]:
    """The rows of the run's splits.csv; where it cannot be read none, and a note."""
    try:
        return read_splits(run), []
    except RunError as error:
        return [], [str(error)]


def split_of(row: Mapping[str, str], fold: int) -> str:
    """The split that a row of splits.csv is in, as a fold sees it; "" for none."""
    if row["fold"] == str(fold) or row["split"] == "val":
        return "val"
    return row["split"]


def evaluations_of(run: Path) -> Iterator[EvaluatedSplit]:
    """What was evaluated of a run, of its folds together first; what cannot be read is no part."""
    best = {fold: best_of(fold / CHECKPOINTS) for fold in fold_folders(run)}
    for place in (run, *best):
        for file in sorted(place.glob(f"test_results/*/{METRICS}")):
            if (evaluated := _evaluation(file, best)) is not None:
                yield evaluated


def _evaluation(file: Path, best: Mapping[Path, Path | None]) -> EvaluatedSplit | None:
    """What test_metrics.json says. best: the best checkpoint of each fold's folder now."""
    try:
        saved = read_json(file)
        checkpoint, page = str(saved["checkpoint"]), file.with_name(PAGE)
        return EvaluatedSplit(
            split=file.parent.name,
            fold=saved["fold"],
            folder=file.parent,
            checkpoint=checkpoint,
            metrics=dict(saved["metrics"]),
            intervals={name: (low, high) for name, (low, high) in saved["intervals"].items()},
            trained_on=(saved.get("trained_on") or {}).get("train"),
            of_best=_is_of_best(saved, file.parents[2], best),
            report=page if page.is_file() else None,
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _is_of_best(saved: Mapping[str, Any], place: Path, best: Mapping[Path, Path | None]) -> bool:
    """Whether an evaluation below `place`, a fold or the run, is of what is the best now."""
    if place in best:
        path = best[place]
        return is_best_now(str(saved["checkpoint"]), None if path is None else path.name)
    sidecars = [sidecar_of(path) for path in best.values() if path is not None]
    epochs = {one.fold or 0: one.epoch for one in sidecars if one and one.epoch is not None}
    return are_best_epochs_now((saved.get("cross_validation") or {}).get("per_fold"), epochs)


def _not_default(trained: TrainConfig) -> Iterator[Setting]:
    default = flattened(TrainConfig().model_dump(mode="json"))
    for name, value in flattened(trained.model_dump(mode="json")).items():
        if value != default[name]:
            yield Setting(name, value, default[name])


def _fold(run: Path, number: int, rows: Sequence[Mapping[str, str]]) -> FoldDetails:
    folder = fold_folder(run, number) / CHECKPOINTS
    best, last = best_of(folder), last_of(folder)
    at_best = None if best is None else sidecar_of(best)
    at_last = sidecar_of_last(folder)
    splits = Counter(split_of(row, number) for row in rows)
    return FoldDetails(
        fold=number,
        pictures={split: splits[split] for split in SPLIT_NAMES},
        epochs=(at_last and at_last.epoch) or 0,
        best_epoch=None if at_best is None else at_best.epoch,
        best=dict((at_best and at_best.metrics) or {}),
        checkpoints=tuple(_saved(path, best, last) for path in newest_first(folder)),
        trackers=_trackers(folder.parent),
        share=None if at_best is None else at_best.share,
    )


def _trackers(fold: Path) -> dict[str, dict[str, Any]]:
    tracked = read_tracked(fold)
    if tracked is None:
        return {}
    return {name: {"key": tracked.key, **tracked.kept.get(name, {})} for name in tracked.names}


def _saved(path: Path, best: Path | None, last: Path | None) -> SavedCheckpoint:
    sidecar = sidecar_of(path)
    return SavedCheckpoint(
        name=path.name,
        epoch=None if sidecar is None else sidecar.epoch,
        step=None if sidecar is None else sidecar.step,
        size_bytes=contents_of(str(path)).size_bytes,
        best=path == best,
        last=path == last,
    )
