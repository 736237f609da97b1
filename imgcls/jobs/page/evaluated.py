"""What is on disk of an evaluated split, and of the run that it is of."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgcls.config.files import read_json, read_text
from imgcls.engine.training.selection.trackers import count_from_one
from imgcls.errors import DataError
from imgcls.metrics.scores import confused_pairs, confusion_counts
from imgcls.output.pages.evaluation import Evaluation, RunFacts
from imgcls.results.checkpoint import Sidecar
from imgcls.storage.evaluations import METRICS, PER_CLASS, read_predictions
from imgcls.storage.pointers import CHECKPOINTS, sidecar_of
from imgcls.storage.runs import CONFIG, PREFLIGHT, SPLITS, run_of
from imgcls.storage.tables import csv_rows, read_csv

if TYPE_CHECKING:
    from scipy.sparse import csr_array

HISTORY = "history.csv"
_MOST_PAIRS = 20


def read_evaluated(folder: Path, home: Path) -> tuple[Evaluation, csr_array, Sidecar | None]:
    """What is on disk, the confusion counts [C, C], and what the checkpoint says of itself."""
    predictions = read_predictions(folder)
    saved = read_json(folder / METRICS)
    names = saved["class_names"]
    confusion = confusion_counts(predictions.labels, predictions.predicted, len(names))
    per_class = [_numbers(row) for row in read_csv(folder / PER_CLASS)]
    if [row["class"] for row in per_class] != names:
        raise ValueError(f"{PER_CLASS} has other classes than {METRICS}")
    # beside the results, wherever the run was moved to
    name = Path(saved["checkpoint"]).name
    # without it the page has no epoch and no versions
    sidecar = sidecar_of(home / CHECKPOINTS / name) or sidecar_of(home / name)
    history = home / HISTORY
    evaluation = Evaluation(
        report=saved,
        predictions=predictions,
        per_class=per_class,
        confusions=confused_pairs(confusion, _MOST_PAIRS),
        history=count_from_one(map(_numbers, read_csv(history))) if history.is_file() else [],
        run=_run_facts(home / CONFIG, saved, sidecar),
    )
    return evaluation, confusion, sidecar


@contextlib.contextmanager
def of_one_evaluation(folder: Path) -> Iterator[None]:
    """Say which files are no whole evaluation, whatever comes of reading and drawing them.

    Anyone may have changed them, and each value is only looked at where it is shown.
    """
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise DataError(
            f"{folder}: its files, or those of its run, do not fit together ({error}); make them "
            "again with `imgcls evaluate`"
        ) from error


def _run_facts(inside: Path, saved: Mapping[str, Any], sidecar: Sidecar | None) -> RunFacts:
    versions = (sidecar and sidecar.versions) or {}
    run = run_of(inside)
    if run is None:
        return RunFacts(versions=versions)
    config = run / CONFIG
    return RunFacts(
        config=read_text(config) if config.is_file() else "",
        counts=class_counts(run, saved["class_names"], str(saved["fold"])),
        findings=findings(run / PREFLIGHT),
        versions=versions,
    )


def class_counts(run: Path, class_names: Sequence[str], fold: str) -> list[dict[str, Any]]:
    """Pictures of each class by split, as the fold sees them; of every fold where fold is "all"."""

    def place(split: str, own: str) -> str:
        if not split:
            return "left out"
        if not own:
            return split
        return f"fold {own}" if fold == "all" else "val" if own == fold else split

    rows = csv_rows(run / SPLITS)
    counted = Counter((row["label"], place(row["split"], row["fold"])) for row in rows)
    held = {where for _, where in counted}
    folds = sorted((w for w in held if w.startswith("fold ")), key=lambda w: (len(w), w))
    usual = [w for w in ("train", "val", "test") if w in held or not folds]
    columns = [*folds, *usual, *(["left out"] if "left out" in held else [])]
    if unknown := {label for label, _ in counted} - set(class_names):
        raise KeyError(*sorted(unknown)[:1])
    return [{"class": n, **{where: counted[n, where] for where in columns}} for n in class_names]


def findings(file: Path) -> list[tuple[str, str]]:
    if not file.is_file():
        return []
    found = read_json(file)
    return [
        ("Checked before training", f"{found['pictures']:,} pictures"),
        ("Not readable", f"{len(found['unreadable']):,}"),
        ("With an identical copy in another split", f"{found['leaks']:,}"),
        ("With an identical copy under another label", f"{found['conflicts']:,}"),
    ]


def _numbers(row: Mapping[str, str]) -> dict[str, Any]:
    """The cells of a CSV row: the class's name as it is, all others numbers or None."""
    return {key: text if key == "class" else _number(text) for key, text in row.items()}


def _number(text: str) -> float | None:
    if not text:
        return None
    return int(text) if text.lstrip("-").isdecimal() else float(text)
