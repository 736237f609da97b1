"""Which pictures are scored: a split of the run, wherever it lies, or others by class name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from imgcls.columns.rows import matches
from imgcls.config.evaluate import EvaluateConfig
from imgcls.config.reading import ReadingConfig
from imgcls.data.audit.findings import picture
from imgcls.data.audit.picture import check
from imgcls.data.audit.scan import scan
from imgcls.data.loading.bad_images import bad_image, nothing_left
from imgcls.data.splits.assign import assignment_from_rows
from imgcls.data.splits.groups import has_groups
from imgcls.data.splits.recorded import DIGEST, find_recorded
from imgcls.data.table import SampleTable
from imgcls.engine.checkpoint.folder import Checkpoint
from imgcls.errors import ConfigError, DataError, RunError
from imgcls.jobs.plan.tables import checkpoint_table, recorded_table
from imgcls.results.audit import AuditPicture
from imgcls.results.comparison import TrainedOn
from imgcls.storage.bad_images import BAD_IMAGES
from imgcls.storage.runs import SPLITS, run_of
from imgcls.storage.splits import checked_at_s, differing, keys_in, read_splits, trained_by

_LONGEST_NAME = 150  # bytes
_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Pictures:
    """The rows of a table to score, with labels in the model's order of classes.

    left_out: those that cannot be read, where they were looked for. run: the run whose own split
    this is. trained_on: how many of them the model has seen, where that was asked.
    """

    table: SampleTable
    indices: np.ndarray
    split: str
    notes: tuple[str, ...] = ()
    left_out: tuple[AuditPicture, ...] = ()
    run: Path | None = None
    trained_on: TrainedOn | None = None

    @property
    def groups(self) -> tuple[str, ...] | None:
        """The group of each picture, "" for one of its own; None where no picture has one."""
        if not has_groups(self.table):
            return None
        own = tuple((self.table.groups or ())[index] for index in self.indices)
        return own if any(own) else None

    def column(self, name: str) -> tuple[str, ...]:
        """What the data say of each picture in a column, or its group.

        Raises ConfigError for a column that the data do not have.
        """
        columns = dict(self.table.columns)
        if self.table.groups is not None:
            columns["group"] = self.table.groups
        if name not in columns:
            has = f"it has {', '.join(columns)}" if columns else "only tables have such columns"
            raise ConfigError(f"--by {name}: {self.table.name} has no such column; {has}")
        return tuple(columns[name][index] for index in self.indices)


def chosen_pictures(config: EvaluateConfig, checkpoint: Checkpoint) -> Pictures:
    """The pictures that the options name: those of `--data`, else the run's own `--split`.

    Raises ConfigError or DataError where there are none, or they lack a column of `--by`.
    """
    pictures = _chosen(config, checkpoint)
    require_columns(pictures, config)
    return pictures


def require_columns(pictures: Pictures, config: EvaluateConfig) -> None:
    """Raise ConfigError unless the data have every column of `--by`."""
    for name in config.by:
        pictures.column(name)


def _chosen(config: EvaluateConfig, checkpoint: Checkpoint) -> Pictures:
    skip = config.on_bad_image == "skip"
    if config.data is None:
        return run_pictures(checkpoint, config.split, config.reading, skip=skip)
    table = checkpoint_table(checkpoint, config.data, config.reading, keep_missing=skip)
    if config.names_split:
        own = _own_split_in(table, config.data, checkpoint, config.split, skip=skip)
        if own is not None:
            table, note = own
            notes = (*table.notes, note)
            run = run_of(checkpoint.folder)
            return Pictures(table, np.arange(len(table)), config.split, notes, run=run)
    if table.splits is None:
        note = f"all {len(table)} pictures of {config.data} are scored; it has no splits"
        return Pictures(table, np.arange(len(table)), _data_name(table), (*table.notes, note))
    indices = np.flatnonzero(table.splits.equal(config.split))
    if not len(indices):
        present = table.splits.distinct()
        raise ConfigError(
            f"--split {config.split}: {config.data} has no such split; it has {', '.join(present)}"
        )
    return Pictures(table, indices, f"{_data_name(table)}-{config.split}", table.notes)


def has_split(checkpoint: Checkpoint, split: str) -> bool:
    """True when the run that the checkpoint lies in has pictures in a split. Raises RunError."""
    return bool(keys_in(read_splits(_run_of(checkpoint)), split, checkpoint.fold))


def run_pictures(
    checkpoint: Checkpoint, split: str, reading: ReadingConfig | None = None, *, skip: bool = False
) -> Pictures:
    """The pictures of a split of the run that the checkpoint lies in, by its splits.csv.

    reading: what is to be read otherwise than in training, such as another root. skip: pictures
    that are gone stay, as ones that cannot be read. Raises DataError when the split has none or the
    data has changed, RunError outside a run and for a splits.csv that was edited.
    """
    run = _run_of(checkpoint)
    rows = read_splits(run)
    edited = differing(rows, checkpoint.sidecar.splits)
    if edited is not None:
        raise RunError(
            f"{run / SPLITS}: is not what {checkpoint.folder.name} was trained by: {edited}; put "
            "it back, or say which pictures to score with --data"
        )
    fold = checkpoint.fold
    table = recorded_table(
        checkpoint_table(checkpoint, None, reading or ReadingConfig(), keep_missing=skip),
        rows,
        since_s=checked_at_s(run),
        skip=skip,
        compare=set(keys_in(rows, split, fold)),
    )
    assignment = assignment_from_rows(table, rows)
    indices = assignment.indices(split, fold)
    if not len(indices):
        present = [s for s in ("train", "val", "test") if len(assignment.indices(s, fold))]
        raise DataError(
            f"--split {split}: this run has no {split} pictures; it has {', '.join(present)}"
        )
    return Pictures(table, indices, split, run=run)


def own_pictures(checkpoint: Checkpoint, split: str, config: EvaluateConfig) -> Pictures:
    """The readable pictures of a split of the checkpoint's run, to fit something on.

    They lie where the run has them or, where they have moved, in `--data`. Raises as `run_pictures`
    and `readable`.
    """
    if run_of(checkpoint.folder) is None:
        raise RunError(
            f"{checkpoint.folder}: lies outside its run, or its run has lost splits.csv, so its "
            f"{split} pictures, on which this would be fitted, are not known; put it back into "
            "its run"
        )
    skip = config.on_bad_image == "skip"
    try:
        found = run_pictures(checkpoint, split, config.reading, skip=skip)
    except DataError:
        if config.data is None:
            raise
        table = checkpoint_table(checkpoint, config.data, config.reading, keep_missing=skip)
        own = _own_split_in(table, config.data, checkpoint, split, skip=skip)
        if own is None:
            raise
        found = Pictures(own[0], np.arange(len(own[0])), split, run=run_of(checkpoint.folder))
    return readable(found, config)


def readable(pictures: Pictures, config: EvaluateConfig) -> Pictures:
    """Without the pictures that cannot be read, where `--on-bad-image skip` leaves them out."""
    if config.on_bad_image == "error":
        return pictures
    return without_unreadable(pictures, config.workers)


def without_unreadable(pictures: Pictures, workers: int | str) -> Pictures:
    """The pictures that can be read; the others are in its `left_out`, and a note counts them.

    Raises BadImageError when none can.
    """
    table, rows = pictures.table, pictures.indices.tolist()
    checked = scan(table.select(pictures.indices).images, len(rows), check, workers=workers)
    reasons = [fact.reason for fact in checked]
    bad = [(row, why) for row, why in zip(rows, reasons, strict=True) if why]
    if not bad:
        return pictures
    if len(bad) == len(rows):
        raise nothing_left([bad_image(table, *bad[0])], f"the {pictures.split} pictures")
    note = (
        f"{len(bad):,} of {len(rows):,} {pictures.split} pictures cannot be read and are left out; "
        f"{BAD_IMAGES} lists them"
    )
    return replace(
        pictures,
        indices=pictures.indices[[not why for why in reasons]],
        notes=(*pictures.notes, note),
        left_out=tuple(picture(table, row, why) for row, why in bad),
    )


def _own_split_in(
    table: SampleTable, data: str, checkpoint: Checkpoint, split: str, *, skip: bool
) -> tuple[SampleTable, str] | None:
    """The pictures of the run's own split that are in a table, and a note; None for other data.

    Data hold the split when each of its pictures is there, by its name and content or by its
    content alone. Of a picture without a recorded content the name has to do, and then all names
    of the run have to be there. skip: those that are missing stay, as ones that cannot be read;
    those that have other contents are passed over, as the note says. Raises DataError where only
    half of the split, or more, is there, and for a changed class.
    """
    run = run_of(checkpoint.folder)
    if run is None:
        return None
    rows = trained_by(read_splits(run), checkpoint.sidecar.splits)
    wanted = set() if rows is None else {*keys_in(rows, split, checkpoint.fold)}
    if not rows or not wanted:
        return None
    mine = [row for row in rows if row["path"] in wanted]
    by_name = sum(not row.get(DIGEST) for row in mine)
    if by_name and (matches(rows.columns["path"], table.keys) < 0).any():
        return None
    found = find_recorded(table, mine, keep_gone=skip)
    changed = set(found.changed)
    here = {*found.found} - changed
    missing = sorted(wanted - here)
    if 2 * len(missing) > len(wanted):
        return None
    if missing and not skip:
        shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise DataError(
            f"{data}: has {len(here):,} of the {len(wanted):,} pictures of the run's {split} "
            f"split; missing are {shown}; put them there, leave them out with --on-bad-image "
            "skip, or leave --split out to score all that is there"
        )
    keys = found.table.keys
    own = found.table.select(np.array([row for row, k in enumerate(keys) if k in wanted - changed]))
    unchanged = [row for row in mine if row["path"] not in changed]
    assignment_from_rows(own, unchanged)  # refuses other classes than the run's
    note = f"{data} holds the run's own {split} split, and that is what is scored"
    if found.renamed:
        note += f"; {found.renamed:,} of its pictures have other names there"
    if changed:
        note += f"; {len(changed):,} have other contents there, and are passed over"
    if by_name:
        note += f"; {by_name:,} are known by their names alone"
    if others := len(table) - len(here):
        note += f"; {others:,} other pictures are passed over"
    return own, note


def _run_of(checkpoint: Checkpoint) -> Path:
    run = run_of(checkpoint.folder)
    if run is None:
        raise RunError(
            f"{checkpoint.folder}: lies outside its run, or its run has lost splits.csv, so the "
            "split is not known; say which pictures to score with --data"
        )
    return run


def _data_name(table: SampleTable) -> str:
    # kept apart from the run's own splits, whose files must not be replaced
    name = table.name.encode(errors="surrogateescape")
    if len(name) <= _LONGEST_NAME:
        return f"data-{table.name}"
    # file systems allow 255 bytes, and more is put before and behind it
    digest = hashlib.sha256(name).hexdigest()[:8]
    return f"data-{name[:_LONGEST_NAME].decode(errors='ignore')}-{digest}"
