"""Two runs on the splits that both were evaluated on, paired where the pictures are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from imgcls.config.files import read_json
from imgcls.errors import DataError
from imgcls.metrics.registry import all_metrics
from imgcls.results.run_details import EvaluatedSplit, MetricDiff, SplitDiff
from imgcls.storage.evaluations import METRICS, read_predictions

if TYPE_CHECKING:
    from imgcls.metrics.predictions import Predictions

# as an evaluation has them that says nothing else
_SAMPLES, _SEED = 1000, 0


def compare_splits(
    a: Mapping[str, EvaluatedSplit],
    b: Mapping[str, EvaluatedSplit],
    groups: Mapping[str, str],
) -> Iterator[SplitDiff]:
    """The splits that both were evaluated on. groups: the group of each picture that has one."""
    for split in a:
        if split in b:
            yield _compare(split, a[split], b[split], groups)


def _compare(
    split: str, a: EvaluatedSplit, b: EvaluatedSplit, groups: Mapping[str, str]
) -> SplitDiff:
    sizes = [int(side.metrics.get("samples") or 0) for side in (a, b)]
    alone = SplitDiff(split, sizes[0], sizes[1], paired=False, metrics=_side_by_side(a, b))
    try:
        one, other = _aligned(a.folder, b.folder)
    except DataError as error:
        return SplitDiff(**{**vars(alone), "note": f"not paired: {error}"})
    from imgcls.metrics.comparison import mcnemar, paired_differences
    from imgcls.metrics.resampling import Resampler

    units = [groups.get(key, "") for key in one.keys]
    resampler = note = None
    try:
        resampler = Resampler(one.labels, _SAMPLES, _SEED, units if any(units) else None)
    except DataError as error:
        note = f"no intervals of the differences: {error}"
    found = paired_differences(other.outcomes, [one.outcomes], resampler)
    metrics = {
        name: MetricDiff(
            a=row.other,
            b=row.this,
            interval_a=a.intervals.get(name),
            interval_b=b.intervals.get(name),
            difference=row.difference,
            interval=row.interval,
        )
        for name, row in found.items()
    }
    test = mcnemar(other.outcomes, one.outcomes)
    return SplitDiff(
        split, sizes[0], sizes[1], paired=True, metrics=metrics, mcnemar=test, note=note
    )


def _side_by_side(a: EvaluatedSplit, b: EvaluatedSplit) -> dict[str, MetricDiff]:
    rows = {}
    for name in (metric.name for metric in all_metrics(()) if metric.compared):
        one, other = a.metrics.get(name), b.metrics.get(name)
        if one is not None and other is not None:
            own = a.intervals.get(name), b.intervals.get(name)
            rows[name] = MetricDiff(one, other, *own, other - one, None)
    return rows


def _aligned(a: Path, b: Path) -> tuple[Predictions, Predictions]:
    """The predictions of both, b's in a's order of pictures and classes.

    Raises DataError where they are not of the same pictures with the same labels, or not whole.
    """
    import numpy as np

    from imgcls.metrics.predictions import Predictions

    # read_predictions has looked the names up already
    one, other = read_predictions(a), read_predictions(b)
    names_a, names_b = (read_json(folder / METRICS)["class_names"] for folder in (a, b))
    if set(names_a) != set(names_b):
        raise DataError("the two models know different classes")
    position = {key: row for row, key in enumerate(other.keys)}
    if position.keys() != set(one.keys):
        shared = len(position.keys() & set(one.keys))
        raise DataError(f"they were scored on other pictures ({shared:,} of both)")
    rows = np.array([position[key] for key in one.keys])
    columns = np.array([names_b.index(name) for name in names_a])
    renamed = np.argsort(columns)
    moved = Predictions(
        one.keys, other.logits[rows][:, columns], renamed[other.labels[rows]], other.temperature
    )
    changed = int((moved.labels != one.labels).sum())
    if changed:
        raise DataError(f"{changed:,} of the pictures have another label")
    return one, moved
