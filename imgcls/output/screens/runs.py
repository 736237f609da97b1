"""Runs as a table of plain text: loading rich takes longer than finding them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from imgcls.config.runs import RunsConfig
from imgcls.output.console import Console
from imgcls.output.metric_names import metric_title, metric_writer
from imgcls.output.numbers import MISSING, byte_size, counted, reach
from imgcls.output.text import visible
from imgcls.results.runs import RunList, RunRow, RunScore

_COLUMNS = ("Name", "Began", "Data", "Model", "Epochs", "Metric", "On", "Status", "Size")
_NUMBERS = {"Epochs", "Metric", "Size"}
# what goes first where a terminal is narrow: names made by imgcls hold data, model and time
_DISPENSABLE = ("Data", "Model", "Size", "Began")
_SHORTEST_NAME, _MOST_NAMED = 16, 5
_GAP = "  "
_OTHER = "*"


def show_runs(console: Console, found: RunList, config: RunsConfig) -> None:
    """A line a run; or CSV, Markdown or LaTeX."""
    if config.form == "csv":
        console.rows(_csv(found.runs))
    elif not found.runs and not console.json:
        console.result(found, f"No runs in {found.folder}; `imgcls train` makes one.")
    else:
        form = {"markdown": _markdown, "latex": _latex}.get(config.form or "", _plain)
        console.result(found, form(found.runs))
    if config.html is not None and config.form is None:
        console.path("Page", str(config.html))
    for row in found.runs:
        if row.status == "damaged":
            console.say(f"{row.name} cannot be read: {row.reason}")
    if any(row.score is not None and not row.score.of_best for row in found.runs):
        console.say(f"{_OTHER} of another checkpoint than the best one now; evaluate it again")
    if found.left_out:
        named = ", ".join(found.left_out[:_MOST_NAMED])
        more = len(found.left_out) - _MOST_NAMED
        rest = f" and {more:,} more" if more > 0 else ""
        what = counted(len(found.left_out), "folder that is no run", "folders that are no runs")
        console.say(f"left out: {what} ({named}{rest})")


def cells_of(row: RunRow, *, one_metric: bool) -> dict[str, str]:
    """What each column shows of a run; one_metric: the title names the metric."""
    return {
        "Name": row.name,
        "Began": began_in_words(row.began),
        "Data": row.data or MISSING,
        "Model": row.model or MISSING,
        "Epochs": epochs_in_words(row),
        "Metric": score_in_words(row.score, named=not one_metric),
        "On": MISSING if row.score is None else where_in_words(row.score, row.folds),
        "Status": row.status,
        "Size": byte_size(row.size_bytes),
    }


def began_in_words(began: str | None) -> str:
    """Date and time, where the reader is."""
    if began is None:
        return MISSING
    return datetime.fromisoformat(began).astimezone().strftime("%Y-%m-%d %H:%M")


def epochs_in_words(row: RunRow) -> str:
    """How many of how many."""
    if row.epochs is None:
        return MISSING
    planned = "" if row.epochs_planned is None else f"/{row.epochs_planned}"
    return f"{row.epochs}{planned}"


def score_in_words(score: RunScore | None, *, named: bool) -> str:
    """The number with its interval."""
    if score is None:
        return MISSING
    written = metric_writer(score.metric, score.pictures)
    interval = f" ({reach(score.interval, written)})" if score.interval else ""
    name = f"{metric_title(score.metric)} " if named else ""
    return f"{name}{written(score.value)}{interval}"


def where_in_words(score: RunScore, folds: int) -> str:
    """The pictures that the number is of, and a mark where it is of another checkpoint."""
    if not score.evaluated:
        return f"{score.split}, best epoch"
    of = f", {folds} folds" if score.mean is not None else ""
    return f"{score.split}{of}{'' if score.of_best else _OTHER}"


def metric_of_all(rows: Sequence[RunRow]) -> str | None:
    """The one metric that all rows have, None where they differ or have none."""
    metrics = {row.score.metric for row in rows if row.score is not None}
    return metrics.pop() if len(metrics) == 1 else None


def _table(
    rows: Sequence[RunRow], spelt: Callable[[str], str]
) -> tuple[list[str], list[list[str]]]:
    """Titles, and the cells of each row."""
    metric = metric_of_all(rows)
    titles = [metric_title(metric) if metric and name == "Metric" else name for name in _COLUMNS]
    cells = [cells_of(row, one_metric=metric is not None) for row in rows]
    return titles, [[spelt(row[name]) for name in _COLUMNS] for row in cells]


def _plain(rows: Sequence[RunRow]) -> str:
    titles, cells = _table(rows, visible)
    lines = [titles, *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_COLUMNS))]
    shown = list(range(len(_COLUMNS)))
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns
        for name in _DISPENSABLE:
            if sum(widths[i] for i in shown) + len(_GAP) * (len(shown) - 1) > room:
                shown.remove(_COLUMNS.index(name))
        others = sum(widths[i] + len(_GAP) for i in shown[1:])
        widths[0] = min(widths[0], max(room - others, _SHORTEST_NAME))
    return "\n".join(
        _GAP.join(_padded(line[i], widths[i], _COLUMNS[i]) for i in shown).rstrip()
        for line in lines
    )


def _padded(cell: str, width: int, column: str) -> str:
    if len(cell) > width:
        # the end of a name tells runs of one model apart
        head = (width - 1) // 3
        cell = f"{cell[:head]}…{cell[len(cell) - (width - 1 - head) :]}"
    return cell.rjust(width) if column in _NUMBERS else cell.ljust(width)


def _markdown(rows: Sequence[RunRow]) -> str:
    from imgcls.output.pages.markdown import markdown

    titles, cells = _table(rows, markdown)
    rule = ["---:" if name in _NUMBERS else "---" for name in _COLUMNS]
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, rule, *cells))


_IN_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}


def _latex(rows: Sequence[RunRow]) -> str:
    titles, cells = _table(rows, _in_latex)
    columns = "".join("r" if name in _NUMBERS else "l" for name in _COLUMNS)
    body = [f"{' & '.join(line)} \\\\" for line in cells]
    return "\n".join(
        [
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            f"{' & '.join(titles)} \\\\",
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def _in_latex(text: str) -> str:
    return "".join(_IN_LATEX.get(c, c) for c in visible(text))


def _csv(rows: Sequence[RunRow]) -> bytes:
    from imgcls.storage.prediction_rows import shielded
    from imgcls.storage.tables import csv_text

    def cells(row: RunRow) -> dict[str, Any]:
        plain = row.to_json()
        score = plain.pop("score") or dict.fromkeys(
            ("metric", "value", "interval", "split", "pictures", "evaluated", "of_best")
        )
        low, high = score["interval"] or (None, None)
        kept = {
            "metric": score["metric"],
            "value": score["value"],
            "low": low,
            "high": high,
            "split": score["split"],
            "pictures": score["pictures"],
            "evaluated": score["evaluated"],
            "of_best": score["of_best"],
            "mean": score.get("mean"),
            "std": score.get("std"),
        }
        whole = {**plain, **kept}
        return {n: shielded(v) if isinstance(v, str) else v for n, v in whole.items()}

    # the columns of a list without runs are those of any other
    columns = list(cells(RunRow("", Path(), "damaged")))
    heading = dict(zip(columns, columns, strict=True))
    return csv_text(columns, [heading, *map(cells, rows)])
