"""Audit a data set: what is wrong with its pictures, labels and splits."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from imgcls.config.inspect import InspectConfig
from imgcls.data.audit.audit import audit
from imgcls.data.audit.depths import measure_depths
from imgcls.data.audit.findings import findings
from imgcls.data.audit.fix import FixedRows, fixed_rows
from imgcls.data.audit.picture import examine
from imgcls.data.audit.scan import scan
from imgcls.data.open import open_source
from imgcls.data.pixels.decode import UnreadableImageError
from imgcls.data.table import SampleTable
from imgcls.errors import ConfigError
from imgcls.jobs.plan.bit_depth import with_depth
from imgcls.output.outputs import require_parent, require_replaceable
from imgcls.output.pages.audit import audit_page
from imgcls.output.pages.page import picture_uri
from imgcls.results.audit import AuditPicture, AuditReport
from imgcls.storage.durable import write_text, writing
from imgcls.storage.tables import write_csv


def inspect(
    config: InspectConfig, on_picture: Callable[[int, int], None] = lambda _done, _total: None
) -> AuditReport:
    """Read every picture and say what is wrong, the most harmful first; nothing is trained.

    on_picture is told (pictures done, pictures in all). Raises DataError and ConfigError before
    anything is read, WorkerError when a process dies, OutputError when a file cannot be written.
    """
    start_s = time.monotonic()
    table = open_source(config.source, config.reading)
    _check_outputs(config, table)
    depths = measure_depths(table, workers=config.workers, on_picture=on_picture)
    table = with_depth(table, config.reading, depths)
    found = audit(
        table,
        scan(table.images, len(table), examine, workers=config.workers, on_picture=on_picture),
        depths,
    )
    fixed = None if config.fix_manifest is None else fixed_rows(found)
    if config.fix_manifest is not None and fixed is not None:
        _write_manifest(config.fix_manifest, table, fixed)
    wrong = findings(found)
    said = {finding.title for finding in wrong}
    known = found.sizes[found.sizes[:, 0] > 0]
    report = AuditReport(
        data=config.source,
        pictures=len(table),
        class_names=table.class_names,
        class_counts=_class_counts(table),
        groups=None if table.groups is None else len(set(table.groups) - {""}),
        modes=dict(found.modes.most_common()),
        formats=dict(found.formats.most_common()),
        bit_depth=depths.words() or None,
        widths=_range(known[:, 0]),
        heights=_range(known[:, 1]),
        findings=wrong,
        elapsed_s=time.monotonic() - start_s,
        notes=tuple(note for note in table.notes if note not in said),
        fixed_manifest=config.fix_manifest,
        fixed={} if fixed is None else {**fixed.dropped, "kept": len(fixed.keep)},
        html=config.html,
    )
    if config.html is not None:
        _write_page(config.html, report, table)
    return report


def _check_outputs(config: InspectConfig, table: SampleTable) -> None:
    if config.html is not None:
        read = (table.images.location(row) for row in range(len(table)))
        require_replaceable(
            "--html", config.html, force=config.force, inputs=[config.source, *read]
        )
    out = config.fix_manifest
    if out is None:
        return
    if out.suffix.lower() != ".csv":
        raise ConfigError(f"--fix-manifest {out}: the manifest is a .csv file")
    if out.exists():
        raise ConfigError(f"--fix-manifest {out}: exists already; name a new file")
    require_parent("--fix-manifest", out)
    # a picture in a shard or in memory has a location that is no file
    if not any(Path(table.images.location(row)).exists() for row in range(min(len(table), 100))):
        raise ConfigError(
            f"--fix-manifest {out}: a manifest names files, and the pictures of {config.source} "
            "are not files of their own"
        )


def _write_manifest(out: Path, table: SampleTable, fixed: FixedRows) -> None:
    columns: dict[str, Callable[[int], object]] = {
        "path": lambda row: _relative(table.images.location(row), out),
        "label": lambda row: table.class_names[table.labels[row]],
    }
    splits, folds, groups = table.splits, fixed.folds, fixed.groups
    if splits is not None:
        columns["split"] = lambda row: splits[row] or ""
    if groups is not None:
        columns["group"] = lambda row: groups[row]
    if folds is not None:
        columns["fold"] = lambda row: int(folds[row]) if folds[row] >= 0 else ""
    for name, values in table.columns.items():
        columns.setdefault(name, values.__getitem__)
    rows = ({name: value(row) for name, value in columns.items()} for row in fixed.keep.tolist())
    with writing(out):
        write_csv(out, list(columns), rows)


def _write_page(out: Path, report: AuditReport, table: SampleTable) -> None:
    rows = {key: row for row, key in enumerate(table.keys)}

    def thumbnail(picture: AuditPicture) -> str | None:
        try:
            return picture_uri(table.images.open(rows[picture.path]))
        except UnreadableImageError:
            return None

    page = audit_page(report, thumbnail)
    with writing(out):
        write_text(out, page)


def _relative(location: str, out: Path) -> str:
    try:
        return os.path.relpath(location, out.absolute().parent)
    except ValueError:  # another drive
        return location


def _class_counts(table: SampleTable) -> dict[str, dict[str, int]]:
    given = np.array([split or "" for split in table.splits or [""] * len(table)])
    by_split = {split: table.class_counts(np.flatnonzero(given == split)) for split in set(given)}
    order = sorted(by_split, key=("train", "val", "test", "").index)
    return {
        name: {split: int(by_split[split][i]) for split in order}
        for i, name in enumerate(table.class_names)
    }


def _range(values: np.ndarray) -> tuple[int, int, int] | None:
    if not len(values):
        return None
    return int(values.min()), int(np.median(values)), int(values.max())
