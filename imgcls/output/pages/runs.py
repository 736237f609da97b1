"""The runs of a folder as one HTML page: what there is by status, then a table that sorts."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from imgcls.output.metric_names import is_share, metric_title, metric_writer
from imgcls.output.numbers import Quantity, Share, byte_size, reach
from imgcls.output.pages.page import Column, Link, Table, render_page
from imgcls.output.screens.runs import began_in_words, epochs_in_words, where_in_words
from imgcls.results.runs import RunList, RunRow
from imgcls.storage.durable import write_text, writing

_LONGEST_DATA = 24
_STATUSES = ("running", "finished", "stopped", "failed", "damaged")


def write_page(found: RunList, html: Path) -> None:
    """Write the runs as one HTML page. Raises OutputError when it cannot be."""
    with writing(html):
        write_text(html, runs_page(found, html.absolute().parent))


def runs_page(found: RunList, place: Path) -> str:
    """The page. place: the folder that it will lie in, which its links start from."""
    return render_page(
        "runs.html",
        folder=str(found.folder),
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        cards=list(_cards(found.runs)),
        table=_table(found.runs, place),
        left_out=", ".join(found.left_out),
    )


def _cards(rows: Sequence[RunRow]) -> Iterator[tuple[str, str, str]]:
    size = sum(row.size_bytes for row in rows)
    yield "Runs", f"{len(rows):,}", f"{byte_size(size)} in all"
    counts = Counter(row.status for row in rows)
    for status in _STATUSES:
        if counts[status]:  # type: ignore[index]
            yield status.capitalize(), f"{counts[status]:,}", ""  # type: ignore[index]


def _table(rows: Sequence[RunRow], place: Path) -> Table:
    metrics = list(dict.fromkeys(row.score.metric for row in rows if row.score is not None))
    why = any(row.reason is not None for row in rows)
    columns = [
        Column("Name"),
        Column("Began", "word"),
        Column("Data", "word"),
        Column("Model", "word"),
        Column("Epochs", "count", "behind it, of those planned, of all folds together"),
        *(Column(metric_title(name), "percent" if is_share(name) else "score") for name in metrics),
        Column("95% interval", "word"),
        Column("On", "word", "the pictures that the number is of"),
        Column("Status", "word"),
        *([Column("Why")] if why else []),
        Column("Size", "count"),
    ]
    return Table(columns, [list(_cells(row, metrics, place, why=why)) for row in rows])


def _cells(row: RunRow, metrics: Sequence[str], place: Path, *, why: bool) -> Iterator[Any]:
    score = row.score
    yield row.name if row.report is None else Link(row.name, _address(row.report, place))
    yield began_in_words(row.began)
    yield _short(row.data)
    yield row.model
    yield None if row.epochs is None else Quantity(row.epochs, epochs_in_words(row))
    for name in metrics:
        if score is None or score.metric != name:
            yield None
        else:
            yield Share(score.value, score.pictures) if is_share(name) else score.value
    written = None if score is None else metric_writer(score.metric, score.pictures)
    yield reach(score.interval, written) if score and written and score.interval else None
    yield None if score is None else where_in_words(score, row.folds)
    yield row.status
    if why:
        yield row.reason
    yield Quantity(row.size_bytes, byte_size(row.size_bytes))


def _short(data: str | None) -> str | None:
    """The data set's name, of a long path the end."""
    if data is None or len(data) <= _LONGEST_DATA:
        return data
    end = re.split(r"[/\\]", data.rstrip("/\\"))[-1]
    return f"…{end[-_LONGEST_DATA:]}" if len(end) > _LONGEST_DATA else f"…/{end}"


def _address(file: Path, place: Path) -> str:
    """Where a file is, seen from the page."""
    try:
        return quote(Path(os.path.relpath(file, place)).as_posix())
    except ValueError:  # on another drive
        return file.absolute().as_uri()
