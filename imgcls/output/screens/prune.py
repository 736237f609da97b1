"""What `imgcls runs prune` can remove, or has removed, as plain text."""

from __future__ import annotations

from collections import Counter

from imgcls.config.runs import RunsPruneConfig
from imgcls.output.console import Console
from imgcls.output.numbers import byte_size, counted
from imgcls.results.run_details import PruneReport

_WORDS = {
    "checkpoint": ("old checkpoint", "old checkpoints"),
    "cache": ("cache", "caches"),
    "leftover": ("leftover of a killed command", "leftovers of killed commands"),
}
_GAP = "  "


def what_goes(report: PruneReport) -> str:
    """2 old checkpoints and 1 cache, 12.0 MiB in all."""
    counts = Counter[str](item.kind for item in report.items)
    parts = [counted(counts[kind], *words) for kind, words in _WORDS.items() if counts[kind]]
    *most, last = parts
    named = f"{', '.join(most)} and {last}" if most else last
    return f"{named}, {byte_size(report.size_bytes)} in all"


def show_prunable(console: Console, report: PruneReport, config: RunsPruneConfig) -> None:
    """A line for each, and what they come to; before a question nothing on standard output."""
    if not report.items:
        console.result(report, "Nothing to remove.")
    elif config.dry_run:
        console.result(report, _lines(report), f"Would remove {what_goes(report)}.")
    else:
        console.say(_lines(report))
    _show_left_alone(console, report)


def show_pruned(console: Console, report: PruneReport) -> None:
    """What has gone."""
    gone = f"Removed {what_goes(report)}." if report.items else "Nothing was removed."
    console.result(report, gone)
    _show_left_alone(console, report)


def _lines(report: PruneReport) -> str:
    sizes = [byte_size(item.size_bytes) for item in report.items]
    width = max(map(len, sizes))
    kinds = max(len(item.kind) for item in report.items)
    rows = zip(report.items, sizes, strict=True)
    return "\n".join(
        f"{item.kind:<{kinds}}{_GAP}{size:>{width}}{_GAP}{item.path}" for item, size in rows
    )


def _show_left_alone(console: Console, report: PruneReport) -> None:
    for why in report.left_alone:
        console.warn(why)
