"""How two runs differ: settings, pictures, and scores on the same pictures. Loads no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from imgcls.config.load import flattened
from imgcls.config.runs import RunsDiffConfig
from imgcls.jobs.runs.finding import find_run
from imgcls.jobs.runs.listing import row_of
from imgcls.jobs.runs.paired import compare_splits
from imgcls.jobs.runs.show import (
    SPLIT_NAMES,
    evaluations_of,
    rows_of,
    split_of,
)
from imgcls.results.run_details import DataDiff, EvaluatedSplit, MovedPicture, RunDiff, SettingDiff
from imgcls.storage.runs import planned_folds, read_run_config, sidecar_of_run

Rows = Sequence[Mapping[str, str]]
# where a run lies says nothing of it
_PLACES = {"runtime.output", "runtime.experiment"}


def diff_runs(config: RunsDiffConfig) -> RunDiff:
    """How b differs from a. Raises RunError for what is no run, ConfigError for a damaged one."""
    a, b = (find_run(run, config.output) for run in (config.a, config.b))
    (rows_a, notes_a), (rows_b, notes_b) = rows_of(a), rows_of(b)
    settings = [flattened(read_run_config(run).model_dump(mode="json")) for run in (a, b)]
    groups = {row["path"]: row["group"] for row in (*rows_b, *rows_a) if row.get("group")}
    scored = [list(evaluations_of(run)) for run in (a, b)]
    return RunDiff(
        a=row_of(a.parent, a.name),
        b=row_of(b.parent, b.name),
        settings=tuple(_settings(*settings)),
        data=_data(a, b, rows_a, rows_b),
        splits=tuple(compare_splits(_main(scored[0]), _main(scored[1]), groups)),
        notes=(*notes_a, *notes_b, *_warnings("A", scored[0]), *_warnings("B", scored[1])),
    )


def _settings(a: Mapping[str, object], b: Mapping[str, object]) -> Iterator[SettingDiff]:
    for name in dict.fromkeys((*a, *b)):
        if name not in _PLACES and a.get(name) != b.get(name):
            yield SettingDiff(name, a.get(name), b.get(name))


def _data(a: Path, b: Path, rows_a: Rows, rows_b: Rows) -> DataDiff:
    sidecars = sidecar_of_run(a), sidecar_of_run(b)
    prints = [None if sidecar is None else sidecar.data_fingerprint for sidecar in sidecars]
    by_path_a, by_path_b = ({row["path"]: row for row in rows} for rows in (rows_a, rows_b))
    classes_a, classes_b = ({row["label"] for row in rows} for rows in (rows_a, rows_b))
    both = [(row, by_path_b[path]) for path, row in by_path_a.items() if path in by_path_b]
    return DataDiff(
        same=None if None in prints else prints[0] == prints[1],
        fingerprint_a=prints[0],
        fingerprint_b=prints[1],
        pictures_a=_counts(a, rows_a),
        pictures_b=_counts(b, rows_b),
        classes_only_a=tuple(sorted(classes_a - classes_b)),
        classes_only_b=tuple(sorted(classes_b - classes_a)),
        only_a=len(by_path_a.keys() - by_path_b.keys()),
        only_b=len(by_path_b.keys() - by_path_a.keys()),
        relabelled=sum(one["label"] != other["label"] for one, other in both),
        moved=tuple(
            MovedPicture(one["path"], _place(one), _place(other))
            for one, other in both
            if _place(one) != _place(other)
        ),
    )


def _counts(run: Path, rows: Rows) -> dict[str, int]:
    first = planned_folds(read_run_config(run))[0]
    counts = Counter(split_of(row, first) for row in rows)
    return {split: counts[split] for split in SPLIT_NAMES}


def _place(row: Mapping[str, str]) -> str:
    of = f" of fold {row['fold']}" if row["fold"] else ""
    return (row["split"] or "in no split") + of


def _main(evaluations: Sequence[EvaluatedSplit]) -> dict[str, EvaluatedSplit]:
    """The evaluation of each split: of the folds together where they were, else of the first."""
    found: dict[str, EvaluatedSplit] = {}
    for each in evaluations:
        found.setdefault(each.split, each)
    return found


def _warnings(name: str, evaluations: Sequence[EvaluatedSplit]) -> Iterator[str]:
    for each in _main(evaluations).values():
        if each.trained_on:
            yield f"{name}: {each.trained_on:,} pictures of {each.split} were trained on"
        if not each.of_best:
            yield f"{name}: {each.split} was scored by {each.checkpoint}, not the best one now"
